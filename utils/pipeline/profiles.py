"""Which notebooks there are, and the profiles: what `./run_all.sh --profile NAME` runs. Data only.

The runner gives every notebook those of RUN, COMPETITION, EXTERNAL and MODELS that its `parameters`
cell declares; `settings` holds what a profile sets besides. All else has the notebook's default.
"""

from dataclasses import dataclass, field

# A notebook and those before it whose files it reads; it runs again when one of them did.
NEEDS = {
    "01_eda": (),
    "02_sourcing": (),
    "03_augmentation": ("02_sourcing",),
    "04_finetune": ("02_sourcing",),  # runs once for each model of the profile
    "05_one_class": ("02_sourcing",),
    "06_stacking": ("04_finetune", "05_one_class"),
    "07_vote": ("06_stacking",),
    "08_evaluation": ("01_eda", "07_vote"),
    "09_detector": (),
    "10_speed": (),
    "11_ablation": (),
}
RECIPE = tuple(NEEDS)[:8]  # from the archive to a submission and what it is worth

# A parameter that names another run, and the notebooks of that run whose files are read.
OTHER_RUNS = {"TRAINED": ("02_sourcing", "04_finetune", "08_evaluation")}


@dataclass(frozen=True)
class Profile:
    """A run by name: the profile's is the default of RUN."""

    about: str  # one line for --help
    competition: str  # folder under inputs/, of those notebooks that read one
    minutes: dict[str, float]  # on two idle cores: "inputs" (downloads too), then each notebook
    notebooks: tuple[str, ...] = RECIPE
    models: dict[str, dict] = field(default_factory=dict)  # name → parameters of 04_finetune
    external: tuple[str, ...] = ()  # folders under inputs/external/
    settings: dict[str, dict] = field(default_factory=dict)  # notebook → more parameters

    def members(self) -> list[str]:
        """Members of the stack: the scores that 04 and 05 write for these models, but for strict
        and lenient SVMs, which only vote (07)."""
        return [*self.models, *(f"{model}-svm" for model in self.models), "deep-svdd"]


WHISPER_BASE = {"BACKBONE": "whisper-base"}
CAMPPLUS = {"BACKBONE": "campplus"}
GE2E = {"BACKBONE": "ge2e"}

PROFILES = {
    "smoke": Profile(
        about="a few dozen clips and the smallest encoder: whether everything works",
        competition="smoke",
        minutes={"inputs": 2} | dict.fromkeys(RECIPE, 0.3),
        models={"ge2e": GE2E | {"EPOCHS": 1}},
        settings={
            "01_eda": {"LID_CLIPS": 6, "COMPARE_CLIPS": 2},
            "02_sourcing": {"FOLDS": 2, "LEAST": 3},
            "05_one_class": {"BACKBONE": "ge2e", "DEPTHS": [0, 1, 2]},
            "06_stacking": {"DETECTOR": True},
            "08_evaluation": {"BOOTSTRAPS": 50, "SPEED_CLIPS": 6, "HIDDEN_CLIPS": 3},
        },
    ),
    "mini": Profile(
        about="the mini competition, built from registry packages; a submission for its test set",
        competition="mini",
        minutes={"inputs": 12}
        | dict.fromkeys(RECIPE, 0.7)
        | {"01_eda": 3.5, "02_sourcing": 4.5, "04_finetune": 6, "06_stacking": 2.5}
        | {"08_evaluation": 3.5},
        models={"whisper-base": WHISPER_BASE, "campplus": CAMPPLUS, "ge2e": GE2E},
        settings={"06_stacking": {"DETECTOR": True}},
    ),
    "full": Profile(
        about="all speech that registries and demo pages offer; mini's test set; the detector too",
        competition="full",
        minutes={"inputs": 110, "02_sourcing": 25, "04_finetune": 120, "09_detector": 30}
        | dict.fromkeys(("01_eda", "03_augmentation", "05_one_class", "06_stacking"), 5)
        | dict.fromkeys(("07_vote", "08_evaluation"), 5),
        notebooks=(*RECIPE, "09_detector"),
        models={"whisper-base": WHISPER_BASE, "campplus": CAMPPLUS},
        external=("demo_pages",),
        settings={"02_sourcing": {"FOLDS": 3, "STRENGTH_CLIPS": 4000}},
    ),
    "finvcup9": Profile(
        about="the real archive, put there by you (README, 'The real archive'); a model hub, a GPU",
        competition="finvcup9th_1st_ds5",
        minutes={},  # never timed
        models={
            "whisper-small": {"BACKBONE": "openai/whisper-small", "LAYERS": 12},
            "whisper-base": WHISPER_BASE | {"LAYERS": 6},
            "campplus": CAMPPLUS,
            "xls-r-300m": {"BACKBONE": "facebook/wav2vec2-xls-r-300m", "LAYERS": 10},
        },
        settings={"01_eda": {"LID_CLIPS": 1000}},
    ),
    "detector": Profile(
        about="the released detector, trained on demo pages: what `./run_all.sh predict` scores by",
        competition="mini",
        minutes={"inputs": 60, "09_detector": 60},  # from its parts, never timed as a whole
        notebooks=("09_detector",),
        external=("demo_pages",),
    ),
    "speed": Profile(
        about="what scoring and training cost; wants the run of profile mini, and 13 GB of memory",
        competition="mini",
        minutes={"inputs": 10, "10_speed": 55},
        notebooks=("10_speed",),
        settings={"10_speed": {"TRAINED": "mini"}},  # said here, so that it counts (OTHER_RUNS)
    ),
    "ablation": Profile(
        about="what each part of the recipe is worth on speech that training never saw",
        competition="mini",
        minutes={"inputs": 30, "11_ablation": 120},
        notebooks=("11_ablation",),
        external=("demo_pages",),
    ),
}
