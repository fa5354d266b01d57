"""What every test shares: no display is ever wanted."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
