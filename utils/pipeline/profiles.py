"""TODO pipeline.profiles."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One execution of a notebook. `name` is its number plus, for a variant, the model's name."""

    notebook: str
    parameters: dict = field(default_factory=dict)
    variant: str = ""
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.notebook + (f"_{self.variant}" if self.variant else "")


def steps(models: dict[str, dict], common: dict, **special: dict) -> list[Step]:
    """The eight notebooks with one fine-tuning a model. `common`: RUN for all, COMPETITION for those that open its folder;
    `special`: more parameters by notebook number (`nb01=…`)."""

    def step(notebook, needs=(), variant="", **more):
        shared = common if notebook[:2] in ("01", "02", "07", "08") else {"RUN": common["RUN"]}
        return Step(notebook, shared | special.get(f"nb{notebook[:2]}", {}) | more, variant, needs)

    tuned = [
        step("04_finetune", ("02_sourcing",), name, MODEL=name, **values)
        for name, values in models.items()
    ]
    scored = (*(s.name for s in tuned), "05_one_class")
    return [
        step("01_eda"),
        step("02_sourcing"),
        step("03_augmentation", ("02_sourcing",)),
        *tuned,
        step("05_one_class", ("02_sourcing",)),
        step("06_stacking", scored),
        step("07_vote", ("06_stacking",)),
        step("08_evaluation", ("07_vote", "01_eda")),
    ]


PROFILES = {
    "smoke": (
        "inputs/smoke: a few dozen real clips, the smallest encoder. For the tests; minutes.",
        steps(
            {"ge2e": {"BACKBONE": "ge2e", "EPOCHS": 1}},
            {"RUN": "smoke", "COMPETITION": "smoke"},
            nb01={"LID_CLIPS": 6, "COMPARE_CLIPS": 2},
            nb02={"FOLDS": 2, "LEAST": 3},
            nb05={"BACKBONE": "ge2e", "DEPTHS": [0, 1, 2]},
            nb08={"BOOTSTRAPS": 50, "SPEED_CLIPS": 6, "HIDDEN_CLIPS": 3},
        ),
    ),
    "mini": (
        "inputs/mini: the mini competition, built from registry packages. Default; under 45 minutes on 2 cores.",
        steps(
            {
                "whisper-base": {"BACKBONE": "whisper-base"},
                "campplus": {"BACKBONE": "campplus"},
                "ge2e": {"BACKBONE": "ge2e"},
            },
            {"RUN": "mini", "COMPETITION": "mini"},
        ),
    ),
    "pages": (
        "inputs/mini, where demonstration pages train too; hands in for the test of mini. 90 minutes beside other work.",
        steps(
            {"whisper-base": {"BACKBONE": "whisper-base"}, "campplus": {"BACKBONE": "campplus"}},
            {"RUN": "pages", "COMPETITION": "mini"},
            nb02={"EXTERNAL": ["demo_pages"]},
        ),
    ),
    "full": (
        "inputs/full: everything that registries ship and demonstration pages; mini's test; the detector. Hours on 2 cores.",
        steps(
            {"whisper-base": {"BACKBONE": "whisper-base"}, "campplus": {"BACKBONE": "campplus"}},
            {"RUN": "full", "COMPETITION": "full"},
            nb02={"EXTERNAL": ["demo_pages"], "FOLDS": 3, "STRENGTH_CLIPS": 4000},
        )
        + [Step("09_detector", {"RUN": "full", "COMPETITION": "full", "EXTERNAL": ["demo_pages"]})],
    ),
    "detector": (
        "inputs/mini and demonstration pages: the small detector that utils.predict scores recordings with. 20 minutes.",
        [
            Step(
                "09_detector",
                {"RUN": "detector", "COMPETITION": "mini", "EXTERNAL": ["demo_pages"]},
            )
        ],
    ),
    "speed": (
        "inputs/mini and what profile mini trained: what scoring and training cost beside the published ways. About an hour.",
        [Step("10_speed", {"RUN": "speed", "COMPETITION": "mini"})],
    ),
    "ladder": (
        "inputs/mini and demonstration pages: what each trick of the recipe is worth. Up to three hours.",
        [Step("11_ladder", {"RUN": "ladder", "COMPETITION": "mini", "EXTERNAL": ["demo_pages"]})],
    ),
    "past": (
        "inputs/mini and demonstration pages: which encoder and which data help once they train. 11 minutes after steps.",
        [
            Step(
                "12_past_the_deck",
                {"RUN": "past_the_deck", "COMPETITION": "mini", "EXTERNAL": ["demo_pages"]},
            )
        ],
    ),
    "steps": (
        "inputs/mini and demonstration pages: the recipe step by step, each added to the ones before. Over an hour.",
        [
            Step(
                "13_step_by_step",
                {"RUN": "steps", "COMPETITION": "mini", "EXTERNAL": ["demo_pages"]},
            )
        ],
    ),
    "finvcup9": (
        "inputs/finvcup9th_1st_ds5: the real archive, put there by you. Needs a model hub or local weights, and "
        "patience: only fine-tuning uses a GPU, with --engine accelerate.",
        steps(
            {
                "whisper-small": {"BACKBONE": "openai/whisper-small", "LAYERS": 12},
                "whisper-base": {"BACKBONE": "whisper-base", "LAYERS": 6},
                "campplus": {"BACKBONE": "campplus"},
                "xls-r-300m": {"BACKBONE": "facebook/wav2vec2-xls-r-300m", "LAYERS": 10},
            },
            {"RUN": "finvcup9", "COMPETITION": "finvcup9th_1st_ds5"},
            nb01={"LID_CLIPS": 1000},
        ),
    ),
}
