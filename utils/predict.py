"""The public door: score recordings with the released detector, from Python or the command line.

    from utils.predict import load_detector, show
    load_detector().probability("clip.wav")

The code lies in `utils/detector/`; nothing inside the project imports this module.
"""

import sys

from utils.detector.batch.command import main
from utils.detector.scoring import load_detector, show

__all__ = ["load_detector", "main", "show"]

if __name__ == "__main__":
    sys.exit(main())
