"""Translations against the truth -> numbers, each with its protocol, filter and N."""

from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import PictureScores

__all__ = ["ClassScores", "PictureScores"]
