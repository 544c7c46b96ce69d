"""The compiled training of a student, kept for the students of further seeds.

To trace and compile a student's steps, the figures of its gradients and its
maps takes as long as some tens of steps. Students that differ in their seed
alone have the same graphs: the next one is built, so that it draws its weights
as ever, and its values are given to the variables of the compiled one.
"""

import collections
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.methods import base
from ft_tf.signals import constant
from ft_tf.training import averaging
from ft_tf.training import step as steps

# Programs at a time: with factor transfer and its baseline both. Each holds its
# networks, and the teacher as constants.
_MOST = 2


@dataclasses.dataclass(frozen=True)
class State:
  """All variables whose first values a seed decides, and their owners.

  Attributes:
    model: The student.
    methods: The terms of its loss, with the adapters.
    moved: What the steps move: the student, or its like.
    optimizer: Built.
    average: That of the weights; None: there is none.
    generators: What random operations without a seed of their own draw from,
      of the steps and of the figures of gradients.
  """

  model: keras.Model
  methods: list[base.Method]
  moved: keras.Model
  optimizer: keras.optimizers.Optimizer
  average: averaging.Average | None
  generators: Sequence[keras.random.SeedGenerator]

  def assign(self, other: 'State') -> None:
    """Gives every variable the value that it has in another state."""
    for mine, theirs in zip(self._variables(), other._variables(), strict=True):
      mine.assign(keras.ops.convert_to_numpy(theirs))

  def _variables(self) -> list[Any]:
    adapters = [m.adapter for m in self.methods if m.adapter is not None]
    average = self.average.state if self.average is not None else {}
    return [
      *(v for model in (self.moved, *adapters) for v in model.variables),
      *self.optimizer.variables,
      *tf.nest.flatten(average),
      *(generator.state for generator in self.generators),
    ]


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled training.

  Attributes:
    state: What it moves.
    signal: The teacher's, of all terms; None without terms.
    train_steps: As of `loop.Training`, like the others.
    measure: Returns the figures of the terms' gradients, by name.
    validate: Returns the figures of the validation images, by name.
    pictures: Returns maps to look at.
  """

  state: State
  signal: constant.ConstantSignal | None
  train_steps: steps.Steps
  measure: Callable[[], dict[str, float]]
  validate: Callable[[], dict[str, float]]
  pictures: Callable[[], np.ndarray | None]


class Programs:
  """The programs of a command's last kinds of students."""

  def __init__(self) -> None:
    self._kept: collections.OrderedDict[Hashable, Program] = (
      collections.OrderedDict()
    )

  def get(
    self, key: Hashable, state: State, compile_program: Callable[[], Program]
  ) -> Program:
    """Returns a program whose state has the values of a given one.

    Args:
      key: What decides the program; equal keys differ in the values alone.
      state: The state to begin with.
      compile_program: Returns a program of that very state.
    """
    if key in self._kept:
      self._kept[key].state.assign(state)
    else:
      self._kept[key] = compile_program()
    self._kept.move_to_end(key)
    while len(self._kept) > _MOST:
      self._kept.popitem(last=False)
    return self._kept[key]
