"""Synthesisers whose weights come from a model hub.

They are the finalist's eight generators, and two more that the library transformers has.
`transformers_tts` and `package_tts` hold the loaders, `common` what they share. `Line.voice` is
what a loader's docstring says; where `HubSystem.clones` is set, it may also be the path of a
reference recording. Noise is seeded by job and line: a job repeats its bytes on one machine with
the same files.

Weights lie in `<DFS_MODELS>/<owner>/<name>` (DFS_MODELS is `<cache>/models` by default;
`hf download OWNER/NAME --local-dir …` fills it). Where that folder is missing, the hub is asked by
name (HF_HUB_OFFLINE=1 saves the half minute that an unreachable hub takes). What cannot be had
raises GeneratorUnavailable.

Limits. The weights were not available where this was written: the loaders of `transformers_tts` ran
with tiny random models on the CPU; those of `package_tts` were NEVER RUN with their packages, only
with stand-ins, and follow the published code that they name. These packages pin other libraries:
give each its own environment. Nothing that is downloaded is executed here, and pickles load as
weights only; what you clone from a git host, look through yourself.

`python -m utils.synthesis.hub` lists what is available on this machine.
"""
