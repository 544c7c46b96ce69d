"""What a `distiller.Distiller` is made of: models opened, layers connected."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import (
  catalogue,
  errors,
  factors,
  python_arguments,
  recipe_flags,
  recipes,
)
from ft_tf.data import arrays, example_sets
from ft_tf.methods import factor_transfer, registry
from ft_tf.models import (
  checks,
  feature_maps,
  fused,
  keras_settings,
  standard,
  taps,
)
from ft_tf.training import optimizers

_METHODS = ('ft', 'ft_no_paraphraser', factor_transfer.NO_TRANSLATOR)
# Keras's policy by the dtype of the student's feature map.
_PRECISIONS = {'bfloat16': 'mixed_bfloat16', 'float16': 'mixed_float16'}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
  """What training needs, held where Keras does not look for weights.

  Keras trains, counts and saves the models in a model's attributes, and those
  in lists; not those inside such an object.

  Attributes:
    recipe: The numbers; data and schedules in it have no meaning here.
    teacher: The teacher.
    image_shape: `(H, W, C)` of the images.
    forward: From images to `(outputs, {layer: feature map})` of the student,
      with its weights and faster kernels.
    paraphrasers: By the teacher's layer; empty if the method has none.
    terms: The loss terms, one for each pair of layers.
  """

  recipe: recipes.Recipe
  teacher: keras.Model
  image_shape: tuple[int, int, int]
  forward: keras.Model
  paraphrasers: dict[str, factors.Paraphraser]
  terms: tuple[factor_transfer.FactorTransfer, ...]

  @contextlib.contextmanager
  def flat_teacher(self) -> Iterator[keras.Model]:
    """Yields the teacher without nested models, for a while."""
    with _flat(self.teacher, self.image_shape) as teacher:
      yield teacher

  def check_images(self, images: Any) -> tf.Tensor:
    """Returns a batch of images, of which at least the batch size is open.

    Raises:
      UsageError: they are something else.
    """
    height, width, channels = self.image_shape
    if not (
      tf.is_tensor(images)
      and images.shape.is_compatible_with([None, *self.image_shape])
    ):
      raise errors.UsageError(
        f'the data set has {arrays.describe(images)} where teacher and student '
        f'take images [B, {height}, {width}, {channels}]: give batches of these'
      )
    return tf.ensure_shape(images, [None, *self.image_shape])


def make(
  teacher: keras.Model,
  student: keras.Model,
  numbers: dict[str, Any],
  paraphraser: factors.Paraphraser | None,
) -> Parts:
  """Returns the parts; arguments are those of `distiller.Distiller`.

  Args:
    teacher: The teacher; it is frozen.
    student: The student.
    numbers: Of a recipe, by their flags.
    paraphraser: A trained one; None: new ones are made.

  Raises:
    UsageError: they do not fit each other.
  """
  keras_settings.check('Distiller')
  recipe = _recipe(numbers)
  shape = _image_shape(teacher, student)
  with _flat(teacher, shape) as teacher_flat, _flat(student, shape) as flat:
    pairs = registry.resolve_layer_pairs(recipe, teacher_flat, flat)
    recipe = recipe_flags.override(
      recipe,
      {
        'rate': factor_transfer.paraphrase_rate(recipe, teacher_flat, flat),
        'precision': _precision(flat, pairs[0][1]),
      },
    )
    paraphrasers = _paraphrasers(
      recipe, teacher_flat, [layer for layer, _ in pairs], paraphraser
    )
    terms: Any = registry.make(
      recipe,
      registry.Parts(
        teacher=teacher_flat,
        student=flat,
        paraphrasers=[
          paraphrasers[layer] for layer, _ in pairs if paraphrasers
        ],
        # Only other methods read them.
        examples=example_sets.Examples(
          np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)
        ),
      ),
    )
    forward = taps.logits_and_features(
      fused.fuse(flat),
      sorted({layer for term in terms for layer in term.student_layers}),
    )
  return Parts(
    recipe=recipe,
    teacher=teacher,
    image_shape=shape,
    forward=forward,
    paraphrasers=paraphrasers,
    terms=tuple(terms),
  )


def paraphraser_optimizer() -> keras.optimizers.Optimizer:
  """Returns the optimizer of the recipes' paraphrasers, at its first rate."""
  numbers = recipes.Paraphraser(epochs=1)
  return optimizers.CoupledSGD(
    numbers.learning_rate,
    momentum=numbers.momentum,
    coupled_weight_decay=numbers.weight_decay,
  )


def _recipe(numbers: dict[str, Any]) -> recipes.Recipe:
  """Returns a recipe with the numbers, checked."""
  python_arguments.check_choice('method', numbers['method'], _METHODS)
  if isinstance(numbers['beta'], str) and numbers['beta'] == recipes.AUTO:
    raise errors.UsageError(
      "beta='auto' is measured on cross entropy, and this task may have "
      'another loss: give a number'
    )
  return recipe_flags.override(catalogue.get(catalogue.DEFAULT), numbers)


def _image_shape(
  teacher: keras.Model, student: keras.Model
) -> tuple[int, int, int]:
  """Returns `(H, W, C)` of the images of both.

  Raises:
    UsageError: one is no model of images, or the two are of other images.
  """
  models = {'teacher': teacher, 'student': student}
  for name, model in models.items():
    if not isinstance(model, keras.Model):
      raise errors.UsageError(
        f'{name} is {arrays.describe(model)}: give a keras.Model'
      )
    checks.check_takes_images(model, f'the {name}')
  shapes = [model.inputs[0].shape[1:] for model in models.values()]
  if any(a != b and None not in (a, b) for a, b in zip(*shapes, strict=True)):
    raise errors.UsageError(
      f'the teacher takes images of {shapes[0]}, the student of {shapes[1]}: '
      'put keras.layers.Resizing, or what else makes them equal, into one'
    )
  shape = tuple(a or b for a, b in zip(*shapes, strict=True))
  if None in shape:
    raise errors.UsageError(
      f'teacher and student take images of any size, {shape}: build one with '
      'keras.Input of a fixed size, which fixes the sizes of the feature maps'
    )
  if {id(v) for v in teacher.weights} & {id(v) for v in student.weights}:
    raise errors.UsageError(
      'teacher and student share weights, and the teacher is frozen: give a '
      'student with weights of its own, such as keras.models.clone_model makes'
    )
  return shape


@contextlib.contextmanager
def _flat(
  model: keras.Model, image_shape: tuple[int, int, int]
) -> Iterator[keras.Model]:
  """Yields a model of any batch size without nested models, for a while.

  At the end its layers get the names back that they have in the given model, by
  which the models made from it cannot find them any more.
  """
  with standard.keeping_names(model):
    batch, *sizes = model.inputs[0].shape
    if batch is not None or None in sizes or standard.is_nested(model):
      model = standard.flatten(model, image_shape=image_shape)
    yield model


def _precision(student: keras.Model, layer: str) -> str:
  """Returns Keras's policy for what learns from a feature map."""
  dtype = feature_maps.outputs(student)[layer].dtype
  return _PRECISIONS.get(dtype, 'float32')


def _paraphrasers(
  recipe: recipes.Recipe,
  teacher: keras.Model,
  layers: list[str],
  given: factors.Paraphraser | None,
) -> dict[str, factors.Paraphraser]:
  """Returns a paraphraser for each layer, the given one or new ones.

  Raises:
    UsageError: one is given and cannot be used.
  """
  if given is not None:
    _check_given(recipe, layers, given)
  if not recipes.needs_paraphraser(recipe.student.method):
    return {}
  paraphrasers = {}
  for layer in layers:
    paraphrasers[layer] = given or factors.Paraphraser(
      recipe.paraphraser.rate,
      layer=layer,
      form=recipe.factor_form,
      dtype=recipe.precision,
    )
    paraphrasers[layer].build((None, *feature_maps.shape(teacher, layer)))
  return paraphrasers


def _check_given(recipe, layers, given):
  """Raises `UsageError` if a given paraphraser cannot be used."""
  if not isinstance(given, factors.Paraphraser) or not given.built:
    raise errors.UsageError(
      f'paraphraser is {arrays.describe(given)} without weights: give a '
      'trained ft_tf.Paraphraser, or leave it out and call fit_paraphraser'
    )
  if not recipes.needs_paraphraser(recipe.student.method):
    raise errors.UsageError(
      f'method={recipe.student.method!r} has no paraphraser: leave out the '
      'argument'
    )
  if len(set(layers)) > 1:
    raise errors.UsageError(
      f'paraphraser is for one layer, teacher_layer={recipe.teacher_layer!r} '
      'has several: leave the argument out and call fit_paraphraser'
    )
