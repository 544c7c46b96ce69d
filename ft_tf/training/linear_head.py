"""A linear head: of a pretrained student the last layer alone is trained.

It tells what the features of the pretrained weights are worth on the data set
as they are. All other weights are frozen, so that the input of the last layer
is computed once for each image, without augmentation; the layer is then trained
on these features by the steps and the loop of every student.

The features are brought to mean 0 and, over the training images, equal
deviations and a mean square norm of 1: one learning rate then serves networks
of every width. The last layer's weights are converted to such features before
training and back after it, which leaves the network's function as it is.
"""

import dataclasses
import hashlib
import math
import os
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import catalogue, errors, recipe_flags, recipes, run_dir, specs
from ft_tf.data import datasets, example_sets
from ft_tf.models import folding, heads
from ft_tf.progress import reporter
from ft_tf.training import distillation, loop, stage, student_stage

_AT_ONCE = 64  # images
# The least deviation of a feature, as a share of the root mean square of all:
# one that hardly varies is not enlarged to the size of the others.
_LEAST_DEVIATION = 0.01

# By data set what was computed of it last, and of which weights.
_kept: weakref.WeakKeyDictionary[
  datasets.Dataset, tuple[Any, tuple[np.ndarray, np.ndarray]]
] = weakref.WeakKeyDictionary()


def check(recipe: recipes.Recipe, network: keras.Model) -> None:
  """Raises `UsageError` if a recipe's student is not one for a linear head.

  Args:
    recipe: What to run.
    network: Its student, trained or not.
  """
  settings = recipe.student
  if not specs.student_file(settings):
    raise errors.UsageError(
      f'{recipes.LINEAR_HEAD}: --student={settings.model} has fresh weights, '
      'whose features are random; give pretrained ones by --student_weights, '
      'or a .keras file as --student'
    )
  _split(recipe, network)


def _split(
  recipe: recipes.Recipe, network: keras.Model
) -> tuple[keras.KerasTensor, keras.layers.Layer]:
  """Returns the value of `heads.linear_layer`, which a head needs."""
  split = heads.linear_layer(network)
  if split is None:
    raise errors.UsageError(
      f'{recipes.LINEAR_HEAD}: --student={recipe.student.model} does not end '
      'in a dense layer with a bias, or a convolution to 1x1 in its place; '
      'give another --student'
    )
  return split


@dataclasses.dataclass(frozen=True)
class Scaling:
  """Features of mean 0 and mean square norm 1, and weights for them.

  Attributes:
    mean: `[F]`, float64.
    scale: What features less their mean are divided by, `[F]`, float64.
  """

  mean: np.ndarray
  scale: np.ndarray

  @classmethod
  def of(cls, features: np.ndarray) -> 'Scaling':
    """Returns the scaling of the training images' features, `[N, F]`."""
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    least = _LEAST_DEVIATION * np.sqrt(np.square(deviation).mean())
    scale = np.maximum(deviation, least) * np.sqrt(len(mean))
    return cls(mean, np.where(scale > 0, scale, 1.0))

  def features(self, features: np.ndarray) -> np.ndarray:
    """Returns features `[N, F]` scaled, float32."""
    scaled = np.empty(features.shape, np.float32)
    for i in range(0, len(features), 1000):  # A float64 copy of all is large.
      scaled[i : i + 1000] = (features[i : i + 1000] - self.mean) / self.scale
    return scaled

  def to_scaled(self, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Returns the weights that give of scaled features what these give of them.

    Args:
      kernel: `[F, classes]`.
      bias: `[classes]`.
    """
    return [kernel * self.scale[:, None], bias + self.mean @ kernel]

  def from_scaled(
    self, kernel: np.ndarray, bias: np.ndarray
  ) -> list[np.ndarray]:
    """Returns the inverse of `to_scaled`."""
    kernel = kernel / self.scale[:, None]
    return [kernel, bias - self.mean @ kernel]


class LinearHeadStage(student_stage.StudentStage):
  """The last layer's training, on features that are computed once.

  The optimizer's numbers are those of `catalogue.linear_head`, whatever the
  recipe has for training all weights.
  """

  def __init__(
    self, recipe: recipes.Recipe, dataset: datasets.Dataset, *parts: Any
  ):
    values = catalogue.linear_head()
    super().__init__(recipe_flags.override(recipe, values), dataset, *parts)

  def build(self, strategy: tf.distribute.Strategy) -> None:
    super().build(strategy)
    check(self.recipe, self.model)
    features, self._layer = _split(self.recipe, self.model)
    self._frozen = keras.Model(self.model.inputs[0], features)
    *shape, classes = self._layer.kernel.shape
    with strategy.scope():
      # Scaled features, as the loop's batches of images have them.
      image = keras.Input((1, 1, int(np.prod(shape))))
      logits = keras.layers.Dense(classes, dtype='float32', name='head')(
        keras.layers.Flatten()(image)
      )
      self._head = keras.Model(image, logits)

  @property
  def moved(self) -> keras.Model:
    return self._head

  def prepare(
    self,
    run: run_dir.RunDir,
    strategy: tf.distribute.Strategy,
    options: loop.Options,
    part: reporter.Running,
  ) -> loop.Training:
    recipe, seen = self.recipe, self.seen
    part.say_once(f'student: {self.describe_start()}')
    part.say_once('student: all weights but those of its last layer are frozen')
    of_train, of_validation = self._features(part)
    self._scaling = Scaling.of(of_train)
    kernel, bias = self._layer.get_weights()
    self._head.set_weights(
      self._scaling.to_scaled(kernel.reshape(-1, len(bias)), bias)
    )
    examples = self._as_images(of_train, seen.train.labels)
    with strategy.scope():
      optimizer, rate = self.optimizer(
        len(self.dataset.every) / recipe.data.batch_size
      )
      optimizer.build(self._head.trainable_variables)
    forward = distillation.make_forward(
      self._head,
      [],
      recipe.data.batch_size,
      signal=None,
      class_weights=self.class_weights,
    )
    return loop.Training(
      method=self.method,
      epochs=recipe.student.epochs,
      examples=examples,
      images_per_epoch=len(self.dataset.every),
      labels=True,
      train_steps=distillation.compile_steps(
        strategy,
        self._head,
        [],
        optimizer,
        forward,
        jit=options.compiles_by_xla(recipe),
      ),
      state={'student': self._head, 'optimizer': optimizer},
      rate=rate,
      evaluate=stage.validation(
        self._head, self._as_images(of_validation, seen.validation.labels)
      ),
      pictures=lambda: None,
      keep_best=lambda: self._keep_best(run),
      precision=recipe.precision,
    )

  def score(self, run: run_dir.RunDir) -> dict[str, Any]:
    self._put_back()
    return super().score(run)

  def _keep_best(self, run: run_dir.RunDir) -> None:
    self._put_back()
    stage.save(os.path.join(run.path, student_stage.BEST), self.model)

  def _put_back(self) -> None:
    """Gives the student's last layer the weights of the head."""
    kernel, bias = self._scaling.from_scaled(*self._head.get_weights())
    shape = self._layer.kernel.shape
    self._layer.set_weights([kernel.reshape(shape), bias])

  def _as_images(
    self, features: np.ndarray, labels: np.ndarray
  ) -> example_sets.Examples:
    """Returns scaled features in the place of images, `[N, 1, 1, F]`."""
    scaled = self._scaling.features(features)
    return example_sets.Examples(scaled[:, None, None], labels)

  def _features(self, part: reporter.Running) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of training and validation images, `[N, F]`.

    Students of other seeds have the same frozen weights, and share them.
    """
    of_weights = hashlib.sha256()
    for values in self._frozen.get_weights():
      of_weights.update(np.ascontiguousarray(values).data)
    key = self.recipe.student.model, of_weights.hexdigest()
    known_key, features = _kept.get(self.seen, (None, None))
    if features is None or known_key != key:
      features = (
        _compute(self._frozen, self.seen.train, part, 'training'),
        _compute(self._frozen, self.seen.validation, part, 'validation'),
      )
      _kept[self.seen] = key, features
    return features


def _compute(
  network: keras.Model,
  examples: example_sets.AnyExamples,
  part: reporter.Running,
  split: str,
) -> np.ndarray:
  """Returns a frozen network's outputs of images as vectors, `[N, F]` float32.

  Args:
    network: From raw images to features.
    examples: The images, which are taken without augmentation.
    part: Is told how far it is.
    split: What messages call the images.
  """
  folded = folding.fold(network)
  (image,) = folded.inputs
  outputs = tf.function(
    lambda images: folded(images, training=False),
    input_signature=[tf.TensorSpec(image.shape, image.dtype)],
    autograph=False,
  )
  rows = np.empty((len(examples), *network.output_shape[1:]), np.float32)
  for first in range(0, len(examples), _AT_ONCE):
    part.status(f'features of {split} images: {first:,} of {len(examples):,}')
    images = examples.images[first : first + _AT_ONCE]
    rows[first : first + _AT_ONCE] = outputs(
      tf.constant(images, image.dtype)
    ).numpy()
  return rows.reshape(len(examples), math.prod(rows.shape[1:]))
