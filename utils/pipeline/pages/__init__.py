"""Pages that quote results: `python -m utils.pipeline.pages` writes them (see `filling`)."""
