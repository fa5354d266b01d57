"""Training of the zoo's networks: pictures, recipes, checkpoints, resume, teachers, several processes."""

from __future__ import annotations

from deconvviz.data.listing import LEFT_OUT
from deconvviz.data.pictures import Pictures, read_data, split
from deconvviz.processes import leads
from deconvviz.training.evaluation import accuracy
from deconvviz.training.plan import Changes
from deconvviz.training.run import train
from deconvviz.training.scaffold import Norms, renormalise
from deconvviz.training.schedule import rate
from deconvviz.training.teacher import Teacher, load_teacher
from deconvviz.training.views import augment, ten_crops

__all__ = [
    "LEFT_OUT",
    "Changes",
    "Norms",
    "Pictures",
    "Teacher",
    "accuracy",
    "augment",
    "leads",
    "load_teacher",
    "rate",
    "read_data",
    "renormalise",
    "split",
    "ten_crops",
    "train",
]
