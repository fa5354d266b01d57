"""Training of the zoo's networks: pictures, recipes, checkpoints, resume, teachers, several processes."""

from __future__ import annotations

from .curves import learning_curves
from .data import LEFT_OUT, Pictures, read_data, split
from .evaluation import accuracy
from .plan import Changes
from .processes import leads
from .run import train
from .scaffold import Norms, renormalise
from .schedule import rate
from .teacher import Teacher, load_teacher
from .views import augment, ten_crops

__all__ = [
    "LEFT_OUT",
    "Changes",
    "Norms",
    "Pictures",
    "Teacher",
    "accuracy",
    "augment",
    "leads",
    "learning_curves",
    "load_teacher",
    "rate",
    "read_data",
    "renormalise",
    "split",
    "ten_crops",
    "train",
]
