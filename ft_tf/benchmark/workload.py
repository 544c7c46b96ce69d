"""The networks, images and batches that the parts of the benchmark time."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from ft_tf import catalogue, factors, recipe_flags, recipes
from ft_tf.benchmark import jobs
from ft_tf.data import example_sets, views
from ft_tf.methods import base, registry
from ft_tf.models import feature_maps, fused, layers, zoo
from ft_tf.signals import compiled, constant
from ft_tf.training import distillation, optimizers, precision, strategy

CLASSES = 10
# The batches that a run repeats, and the images that these hold at most: the
# memory of a job is then that of its step.
_BATCHES = 16
_IMAGES = 2048


class Workload:
  """The networks, synthetic images and batches of a job."""

  def __init__(self, job: jobs.Job):
    if job.precision == 'auto':
      job = dataclasses.replace(job, precision=precision.automatic()[0])
    self.job = job
    self.recipe = recipe_flags.override(
      catalogue.get('cifar10_resnet56_resnet20'),
      {
        'precision': job.precision,
        'batch_size': job.batch_size,
        'teacher': job.teacher,
        'student': job.student,
      },
    )
    self.strategy = strategy.make(job.replicas)
    self.examples = make_examples(
      max(job.batch_size, min(_IMAGES, _BATCHES * job.batch_size)),
      job.image_size,
    )
    self._spec = layers.Spec(
      self.examples.images.shape[1:],
      CLASSES,
      self.recipe.data.mean,
      self.recipe.data.std,
      precision=job.precision,
    )
    keras.utils.set_random_seed(0)

  # Made when they are first used, so that a job holds what its part needs.

  @functools.cached_property
  def student(self) -> keras.Model:
    with self.strategy.scope():
      return zoo.build(self.job.student, self._spec)

  @functools.cached_property
  def teacher(self) -> keras.Model:
    with self.strategy.scope():
      return randomize_batch_norm(zoo.build(self.job.teacher, self._spec))

  @functools.cached_property
  def layers(self) -> tuple[str, str]:
    """The layers of teacher and student that the recipe chooses."""
    (pair,) = registry.resolve_layer_pairs(
      self.recipe, self.teacher, self.student
    )
    return pair

  @functools.cached_property
  def map_shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """`(H, W, C)` of these layers' maps."""
    teacher_layer, student_layer = self.layers
    return (
      feature_maps.shape(self.teacher, teacher_layer),
      feature_maps.shape(self.student, student_layer),
    )

  @functools.cached_property
  def paraphraser(self) -> factors.Paraphraser:
    shape, _ = self.map_shapes
    with self.strategy.scope():
      paraphraser = factors.Paraphraser(
        self.recipe.paraphraser.rate,
        form=self.recipe.factor_form,
        dtype=self.job.precision,
      )
      paraphraser.build((None, *shape))
    return paraphraser

  def methods(self, method: str = 'ft') -> list[base.Method]:
    """Returns a method's new loss terms, with their adapters."""
    recipe = recipe_flags.override(self.recipe, {'method': method})
    with self.strategy.scope():
      return registry.make(
        recipe,
        registry.Parts(
          teacher=self.teacher,
          student=self.student,
          paraphrasers=(
            [self.paraphraser] if recipes.needs_paraphraser(method) else []
          ),
          examples=self.examples,
        ),
      )

  def translator(self, methods: list[base.Method]) -> factors.Translator:
    """Returns the translator of ft's one loss term."""
    (method,) = methods
    return cast(factors.Translator, method.adapter)

  def signal(self, methods: list[base.Method]) -> constant.ConstantSignal:
    """Returns the compiled teacher signal of methods."""
    return compiled.compile_signal(self.teacher, methods, self.recipe.precision)

  def optimizer(
    self, variables: list[keras.Variable]
  ) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for variables."""
    with self.strategy.scope():
      optimizer, _ = optimizers.make(
        self.recipe.student, 390.0, self.recipe.precision
      )
      optimizer.build(variables)
    return optimizer

  def stream(self, **contents: Any) -> tf.data.Dataset:
    """Returns an endless stream of batches; arguments as of `views.stream`."""
    return views.stream(
      self.examples,
      self.recipe.data,
      seed=0,
      first_step=0,
      last_step=10**7,
      **contents,
    )

  def repeat(
    self, train_steps: Callable[..., dict[str, tf.Tensor]], **contents: Any
  ) -> Callable[[int], float]:
    """Returns a function that runs a number of compiled training steps."""
    batches = iter(
      self.strategy.experimental_distribute_dataset(self.stream(**contents))
    )

    def run(count):
      return float(train_steps(batches, tf.constant(count))['loss'][-1])

    return run

  def student_steps(
    self, method: str = 'ft', *, cached: bool = False
  ) -> Callable[[int], float]:
    """Returns a function that trains the student for a number of steps.

    Args:
      method: The recipe's method; 'scratch' trains without a teacher.
      cached: Whether the teacher signal comes from a cache.
    """
    methods = self.methods(method) if method != recipes.SCRATCH else []
    signal = self.signal(methods) if methods else None
    train_steps = distillation.compile_steps(
      self.strategy,
      self.student,
      methods,
      self.optimizer(distillation.trained_variables(self.student, methods)),
      distillation.make_forward(
        fused.fuse(self.student),
        methods,
        self.job.batch_size,
        signal=signal,
      ),
      jit=self.job.jit,
    )
    rows = None
    if cached and signal is not None:
      rows = _CachedRows(np.float16(signal.rows(self.examples.images[:256])))
    return self.repeat(train_steps, signals=rows)


def make_examples(count: int, size: int) -> example_sets.Examples:
  """Returns random images `[count, size, size, 3]` with random labels."""
  rng = np.random.default_rng(0)
  return example_sets.Examples(
    rng.integers(256, size=(count, size, size, 3), dtype=np.uint8),
    rng.integers(CLASSES, size=count),
  )


def randomize_batch_norm(model: keras.Model) -> keras.Model:
  """Sets random offsets and means of batch norm, as a trained network has.

  They start at 0, and TensorFlow leaves the addition of 0 out of the graph.
  """
  rng = np.random.default_rng(0)
  for weight in model.weights:
    if weight.name in ('beta', 'moving_mean'):
      weight.assign(0.1 * rng.normal(size=weight.shape))
  return model


class _CachedRows:
  """Stands for a signal cache: the same rows for every augmented copy."""

  def __init__(self, rows):
    self._rows = rows
    self.width = rows.shape[1]

  def read(self, numbers, examples):
    del numbers
    return self._rows[examples % len(self._rows)]
