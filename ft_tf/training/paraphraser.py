"""Stage 2: the paraphraser, on the frozen teacher's feature maps."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, factors, losses, recipes, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.models import folding, taps
from ft_tf.signals import constant
from ft_tf.training import common, loop, monitor, precision, sgd, step

TERMS = ('loss', 'reconstruction')
_MEASURED = 10_000  # images that figures are of
_AT_ONCE = 250  # images whose maps are held


def train_paraphraser(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: str,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
) -> dict[str, Any]:
  """Trains a paraphraser without labels; continues or returns what is there.

  Args:
    recipe: Its `data`, `paraphraser` and `seed` count.
    dataset: The images; no label is read.
    teacher: The trained teacher's `.keras` file.
    run: Where to work; `model.keras` and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.

  Returns:
    The result: `reconstruction` on the test split (10,000 images at most), and
    `reconstruction_of_mean`, the same loss if every feature map were answered
    by their mean; `factors`, the channels of the factor, and `dead_factors`,
    those whose standard deviation is below a hundredth of the largest.

  Raises:
    UsageError: the folder holds another run, the teacher does not fit, or the
      recipe names several layers.
    TrainingError: the loss is not finite.
  """
  if ',' in recipe.teacher_layer:
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer}: a paraphraser is of one layer; '
      'give one, and a --workdir for each'
    )
  recipe = precision.settle(recipe)
  loaded = common.load_teacher(teacher, dataset)
  tap = taps.choose(
    loaded, recipe.teacher_layer, before=recipe.before_activation
  )
  identity = common.identity('paraphraser', recipe, teacher=teacher)
  kind = recipe.paraphraser.reconstruction
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      return done
    keras.utils.set_random_seed(recipe.seed)
    feature = compile_feature(loaded, tap, recipe.precision)
    with strategy.scope():
      paraphraser = factors.Paraphraser(
        recipe.paraphraser.rate, layer=tap, dtype=recipe.precision
      )
      paraphraser.build(taps.features(loaded, [tap]).output[tap].shape)
      optimizer, rate = sgd.make(
        recipe.paraphraser,
        len(dataset.every) / recipe.data.batch_size,
        recipe.precision,
      )
      optimizer.build(paraphraser.trainable_variables)

    measure = _Measure(feature, paraphraser, kind)
    validation = sampling.sample(dataset.validation, _MEASURED).images

    def evaluate():
      if not len(validation):
        return {}
      return {'validation_reconstruction': measure.reconstruction(validation)}

    def pictures():
      images = common.pictured(dataset)
      maps, _, rebuilt = measure.maps(images)
      return monitor.mosaic(images, maps, rebuilt)

    stage = loop.Stage(
      name='paraphraser',
      epochs=recipe.paraphraser.epochs,
      examples=dataset.every,
      labels=False,
      train_steps=compile_steps(
        strategy,
        feature,
        paraphraser,
        optimizer,
        kind,
        recipe.data.batch_size,
        jit=options.compiles_by_xla(recipe),
      ),
      state={'paraphraser': paraphraser, 'optimizer': optimizer},
      rate=rate,
      evaluate=evaluate,
      pictures=pictures,
      precision=recipe.precision,
      teacher=teacher,
      teacher_terms=('reconstruction',),
    )
    watch = loop.run(
      stage,
      data=recipe.data,
      seed=recipe.seed,
      run=run,
      strategy=strategy,
      options=options,
    )
    scores = {
      'factors': paraphraser.encoder[-1].filters,
      **measure.scores(sampling.sample(dataset.test, _MEASURED).images),
    }
    return common.finish(
      run, watch, paraphraser, scores, method='paraphraser', seed=recipe.seed
    )


def train_paraphrasers(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: str,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
) -> tuple[str, ...]:
  """Trains a paraphraser for each of the teacher's layers.

  Args:
    recipe: As of `train_paraphraser`, like the others.
    dataset: The images.
    teacher: The trained teacher's `.keras` file.
    run: Where to work; with several layers each has a folder in it, `1/`, `2/`,
      ... A layer that stands twice has one paraphraser.
    strategy: The devices.
    options: Intervals.

  Returns:
    The `.keras` file of each layer's paraphraser, in the order of the layers.
  """
  layers = [theirs for theirs, _ in recipes.taps(recipe)]
  runs = {layers[0]: run}
  if len(layers) > 1:
    runs = {
      layer: run.child(str(number))
      for number, layer in enumerate(dict.fromkeys(layers), start=1)
    }
  for layer, its in runs.items():
    train_paraphraser(
      recipes.override(recipe, {'teacher_layer': layer}),
      dataset,
      teacher=teacher,
      run=its,
      strategy=strategy,
      options=options,
    )
  return tuple(runs[layer].model for layer in layers)


def compile_feature(
  teacher: keras.Model, tap: str, precision: str
) -> constant.ConstantSignal:
  """Returns a frozen teacher's feature map as a function of raw images."""
  feature = folding.fold(
    taps.features(teacher, [tap]), keras.DTypePolicy(precision).compute_dtype
  )
  return constant.ConstantSignal(
    lambda images: feature(images, training=False)[tap],
    teacher.input_shape[1:],
  )


def compile_steps(
  strategy, feature, paraphraser, optimizer, kind, batch_size, *, jit=False
):
  """Returns the compiled loop of paraphraser steps; see `loop.Stage`.

  Args:
    strategy: The devices.
    feature: From raw images to the frozen teacher's feature map.
    paraphraser: The model to train.
    optimizer: Built on its variables.
    kind: 'l1' or 'l2', the reconstruction loss.
    batch_size: The global batch.
    jit: As of `step.compile_steps`.
  """

  def forward(batch):
    target = tf.stop_gradient(feature(batch['image']))
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


class _Measure:
  """The figures of a paraphraser, from the maps of some images at a time."""

  def __init__(self, feature, paraphraser, kind):
    """Compiles them.

    Args:
      feature: From raw images to the frozen teacher's feature map.
      paraphraser: The model.
      kind: 'l1' or 'l2', the reconstruction loss.
    """
    self._kind = kind

    @tf.function(reduce_retracing=True)
    def maps(images):
      real = tf.cast(feature(images), tf.float32)
      factor = paraphraser.encode(real)
      found = real, factor, paraphraser.decode(factor)
      return [tf.cast(each, tf.float32) for each in found]

    self._maps = maps

  def maps(self, images: np.ndarray) -> list[np.ndarray]:
    """Returns maps, factors and reconstructions, `[N, H, W, ...]` each."""
    return [each.numpy() for each in self._maps(tf.constant(images))]

  def reconstruction(self, images: np.ndarray) -> float:
    """Returns the mean reconstruction loss."""
    total = 0.0
    for real, _, rebuilt in self._parts(images):
      total += self._loss(rebuilt, real)
    return total / len(images)

  def scores(self, images: np.ndarray) -> dict[str, float | int]:
    """Returns the figures of the result; see `train_paraphraser`.

    The images are gone over twice: the mean map comes first.
    """
    loss, mean, factor_mean = 0.0, 0.0, 0.0
    for real, factor, rebuilt in self._parts(images):
      loss += self._loss(rebuilt, real)
      mean += real.sum(axis=0, dtype=np.float64)
      factor_mean += factor.mean(axis=(1, 2), dtype=np.float64).sum(axis=0)
    mean = np.float32(mean / len(images))
    factor_mean /= len(images)
    loss_of_mean, variance = 0.0, 0.0
    for real, factor, _ in self._parts(images):
      loss_of_mean += self._loss(np.broadcast_to(mean, real.shape), real)
      variance += ((factor - factor_mean) ** 2).mean(axis=(1, 2)).sum(axis=0)
    spread = np.sqrt(variance / len(images))
    return {
      'reconstruction': loss / len(images),
      'reconstruction_of_mean': loss_of_mean / len(images),
      'dead_factors': int((spread < 0.01 * spread.max()).sum()),
    }

  def _parts(self, images):
    for first in range(0, len(images), _AT_ONCE):
      yield self.maps(images[first : first + _AT_ONCE])

  def _loss(self, paraphrased, real):
    """Returns the sum of the images' losses."""
    each = losses.reconstruction(paraphrased, real, self._kind)
    return float(np.sum(each, dtype=np.float64))
