"""Stage 2: the paraphraser, on the frozen teacher's feature maps."""

import dataclasses
import functools
from typing import Any

import keras
import tensorflow as tf

from ft_tf import (
  errors,
  factors,
  losses,
  recipe_flags,
  recipes,
  run_dir,
  teachers,
)
from ft_tf.data import datasets, sampling
from ft_tf.models import feature_maps, folding, layer_choice, model_files, taps
from ft_tf.progress import reporter
from ft_tf.signals import compiled, constant
from ft_tf.training import (
  loop,
  mosaic,
  optimizers,
  precision,
  reconstruction,
  stage,
  step,
)

TERMS = ('loss', 'reconstruction')
_MEASURED = 10_000  # images that figures are of


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainedParaphraser:
  """A paraphraser as it is handed down, loaded once.

  Attributes:
    model: The paraphraser; frozen.
    path: Its `.keras` file.
  """

  model: factors.Paraphraser
  path: str

  @functools.cached_property
  def sha256(self) -> str:
    """The SHA-256 of the file, in hexadecimal."""
    return run_dir.digest(self.path)


def load(path: str) -> TrainedParaphraser:
  """Returns the paraphraser of a file.

  Raises:
    UsageError: the file holds none.
  """
  model = model_files.load(path)
  if not isinstance(model, factors.Paraphraser):
    raise errors.UsageError(
      f'--paraphraser={path} is not a paraphraser: give the model.keras that '
      'ft-tf train-paraphraser wrote'
    )
  model.trainable = False
  return TrainedParaphraser(model=model, path=path)


def train_paraphraser(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: teachers.Teacher,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  progress: reporter.Progress | None = None,
) -> dict[str, Any]:
  """Trains a paraphraser without labels; continues or returns what is there.

  Args:
    recipe: Its `data`, `paraphraser` and `seed` count.
    dataset: The images; no label is read.
    teacher: The trained teacher.
    run: Where to work; `model.keras` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    progress: As of `stage.run_stage`.

  Returns:
    The result: `reconstruction` on the test split (10,000 images at most), and
    `reconstruction_of_mean`, the same loss if every feature map were answered
    by their mean; `factors`, the channels of the factor, and `dead_factors`,
    those whose standard deviation is below a hundredth of the largest.

  Raises:
    UsageError: the folder holds another run, or the recipe names several
      layers.
    TrainingError: the loss is not finite.
  """
  if ',' in recipe.teacher_layer:
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer}: a paraphraser is of one layer; '
      'give one, and a --workdir for each'
    )
  return stage.run_stage(
    _ParaphraserStage(recipe, dataset, teacher),
    run=run,
    strategy=strategy,
    options=options,
    progress=progress,
  )


def train_paraphrasers(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: teachers.Teacher,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  progress: reporter.Progress | None = None,
) -> tuple[TrainedParaphraser, ...]:
  """Trains a paraphraser for each of the teacher's layers.

  Args:
    recipe: As of `train_paraphraser`, like the others.
    dataset: The images.
    teacher: The trained teacher.
    run: Where to work; with several layers each has a folder in it, `1/`, `2/`,
      ... A layer that stands twice has one paraphraser.
    strategy: The devices.
    options: Intervals.
    progress: As of `stage.run_stage`.

  Returns:
    Each layer's paraphraser, in the order of the layers.
  """
  trained = {}
  for layer, layer_run in layer_runs(recipe, run).items():
    train_paraphraser(
      recipe_flags.override(recipe, {'teacher_layer': layer}),
      dataset,
      teacher=teacher,
      run=layer_run,
      strategy=strategy,
      options=options,
      progress=progress,
    )
    trained[layer] = load(layer_run.model)
  return tuple(trained[layer] for layer, _ in recipes.layer_pairs(recipe))


def layer_runs(
  recipe: recipes.Recipe, run: run_dir.RunDir
) -> dict[str, run_dir.RunDir]:
  """Returns the run of each of the teacher's layers, in their order."""
  layers = dict.fromkeys(layer for layer, _ in recipes.layer_pairs(recipe))
  if len(recipes.layer_pairs(recipe)) == 1:
    return dict.fromkeys(layers, run)
  return {
    layer: run.child(str(number)) for number, layer in enumerate(layers, 1)
  }


class _ParaphraserStage(stage.Stage):
  """The autoencoder on one feature map of the teacher (paper, section 3.1)."""

  method = name = 'paraphraser'

  def __init__(self, recipe, dataset, teacher):
    self.recipe = precision.settle(recipe)
    self.dataset = dataset
    self._teacher = teacher
    self._tap = layer_choice.resolve_layer(
      teacher.model, recipe.teacher_layer, before=recipe.before_activation
    )

  def identity(self):
    return stage.identity(
      'paraphraser', self.recipe, teacher=self._teacher.sha256
    )

  def build(self, strategy):
    recipe, teacher, tap = self.recipe, self._teacher.model, self._tap
    self._feature = compile_feature(teacher, tap, recipe.precision)
    with strategy.scope():
      self.model = factors.Paraphraser(
        recipe.paraphraser.rate,
        layer=tap,
        form=recipe.factor_form,
        # Keras's own would number those of a process, and differ in the file.
        name='paraphraser',
        dtype=recipe.precision,
      )
      self.model.build((None, *feature_maps.shape(teacher, tap)))

  def prepare(self, run, strategy, options, part):
    recipe, dataset = self.recipe, self.dataset
    kind = recipe.paraphraser.reconstruction
    with strategy.scope():
      optimizer, rate = optimizers.make(
        recipe.paraphraser,
        len(dataset.every) / recipe.data.batch_size,
        recipe.precision,
      )
      optimizer.build(self.model.trainable_variables)
    self._figures = reconstruction.Figures(self._feature, self.model, kind)
    validation = sampling.sample(dataset.validation, _MEASURED).images

    def evaluate():
      if not len(validation):
        return {}
      loss = self._figures.reconstruction(validation)
      return {'validation_reconstruction': loss}

    def pictures():
      images = stage.shown_images(dataset)
      maps, _, rebuilt = self._figures.maps(images)
      names = 'teacher map', 'reconstruction'
      return mosaic.draw(images, maps, rebuilt, names=names)

    return loop.Training(
      method=self.method,
      epochs=recipe.paraphraser.epochs,
      examples=dataset.every,
      labels=False,
      signals=self._feature if self._feature.calls_python else None,
      train_steps=compile_steps(
        strategy,
        self._feature,
        self.model,
        optimizer,
        kind,
        recipe.data.batch_size,
        jit=options.compiles_by_xla(recipe),
      ),
      state={'paraphraser': self.model, 'optimizer': optimizer},
      rate=rate,
      evaluate=evaluate,
      pictures=pictures,
      precision=recipe.precision,
      teacher=self._teacher.path,
      teacher_terms=('reconstruction',),
    )

  def score(self, run):
    test = sampling.sample(self.dataset.test, _MEASURED)
    return {
      'factors': self.model.encoder[-1].filters,
      **self._figures.scores(test.images),
    }


def compile_feature(
  teacher: keras.Model, tap: str, precision: str
) -> constant.ConstantSignal:
  """Returns a frozen teacher's feature map as a function of its images."""
  (image,) = teacher.inputs
  feature = folding.fold(
    taps.features(teacher, [tap]), compiled.compute_dtype(teacher, precision)
  )
  return constant.ConstantSignal(
    lambda images: feature(images, training=False)[tap],
    image.shape[1:],
    image.dtype,
  )


def compile_steps(
  strategy: tf.distribute.Strategy,
  feature: constant.ConstantSignal,
  paraphraser: factors.Paraphraser,
  optimizer: keras.optimizers.Optimizer,
  kind: str,
  batch_size: int,
  *,
  jit: bool = False,
) -> step.Steps:
  """Returns the compiled loop of paraphraser steps; see `loop.Training`.

  Args:
    strategy: The devices.
    feature: From raw images to the frozen teacher's feature map; what a batch
      carries as `signal` is not computed.
    paraphraser: The model to train.
    optimizer: Built on its variables.
    kind: 'l1' or 'l2', the reconstruction loss.
    batch_size: The global batch.
    jit: As of `step.compile_steps`.
  """

  def forward(batch):
    target = (
      feature.from_rows(batch['signal'])
      if 'signal' in batch
      else tf.stop_gradient(feature(batch['image']))
    )
    each = losses.reconstruction(paraphraser(target), target, kind)
    loss = tf.reduce_sum(each) / batch_size
    return {'loss': loss, 'reconstruction': loss}

  return step.compile_steps(
    strategy,
    forward,
    terms=TERMS,
    models=[paraphraser],
    optimizer=optimizer,
    jit=jit,
  )
