"""What a recipe and its images ask of a network: its spec, and the student."""

import sys

import keras
import numpy as np

from ft_tf import errors, recipe_flags, recipes
from ft_tf.data import datasets, example_sets
from ft_tf.models import (
  graph,
  layers,
  model_files,
  onnx_models,
  origins,
  pretrained,
  zoo,
)


def settle_statistics(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> recipes.Recipe:
  """Returns the recipe with a mean and std for the images' channels.

  The recipe's own stand if they have as many channels; otherwise those of the
  training images replace them, and a line on standard error tells so.
  """
  channels = dataset.image_shape[-1]
  if len(recipe.data.mean) == channels:
    return recipe
  mean, std = example_sets.statistics(dataset.train)
  texts = (','.join(map(str, each)) for each in (mean, std))
  print(
    'mean and std: {} and {}, of the training images; the recipe has those of '
    '{} channels, the images have {}'.format(
      *texts, len(recipe.data.mean), channels
    ),
    file=sys.stderr,
    flush=True,
  )
  return recipe_flags.override(recipe, {'mean': mean, 'std': std})


def spec(recipe: recipes.Recipe, dataset: datasets.Dataset) -> layers.Spec:
  """Returns what a fresh network needs to know.

  Raises:
    UsageError: the recipe's mean and std are for another number of channels.
  """
  channels = dataset.image_shape[-1]
  if len(recipe.data.mean) != channels:
    mean, std = (
      ','.join(map(str, each))
      for each in example_sets.statistics(dataset.train)
    )
    raise errors.UsageError(
      f"{recipe.data.dataset} has {channels} channels, the recipe's mean and "
      f'std {len(recipe.data.mean)}: give one value per channel, of images in '
      f'[0, 1], such as --mean={mean} --std={std}, which these have'
    )
  return layers.Spec(
    image_shape=dataset.image_shape,
    classes=len(dataset.label_names),
    mean=recipe.data.mean,
    std=recipe.data.std,
    sync_batch_norm=recipe.sync_batch_norm,
    precision=recipe.precision,
  )


def shape_alone(dataset: datasets.Dataset) -> layers.Spec:
  """Returns the spec of a network that has statistics of its own."""
  return layers.Spec(
    image_shape=dataset.image_shape,
    classes=len(dataset.label_names),
    mean=(),
    std=(),
  )


def student_dataset(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> datasets.Dataset:
  """Returns the data set at the student's image size.

  Raises:
    UsageError: its images are smaller than that.
  """
  return dataset.at(recipe.student.student_image_size)


def build_student(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> keras.Model:
  """Returns the student to train, for the images of its own size.

  Args:
    recipe: Names it.
    dataset: The images as the teacher sees them.

  Raises:
    UsageError: there is no such network, it does not fit the images, or it is
      fresh and the recipe has a rate for layers that are not.
  """
  seen = student_dataset(recipe, dataset)
  model = zoo.build(
    recipe.student.model,
    spec(recipe, seen),
    weights=recipe.student.student_weights,
    new_head=recipe.new_head,
    # A file may be for smaller images than the teacher's.
    resized=bool(recipe.student.student_image_size),
  )
  origins.check_rate(model, recipe.student.backbone_rate, 'student')
  return model


def student_file(settings: recipes.Student) -> str:
  """Returns the file that the student starts from; '' if none."""
  if model_files.is_file(settings.model):
    return settings.model
  return settings.student_weights


def describe_start(recipe: recipes.Recipe, dataset: datasets.Dataset) -> str:
  """Returns what the student's training starts from, in words; '' if fresh.

  Args:
    recipe: Names the student, and its file.
    dataset: The images as the teacher sees them.

  Raises:
    UsageError: there is no such file, or it is not of the network.
  """
  settings = recipe.student
  path, wanted = student_file(settings), len(dataset.label_names)
  if not path:
    return ''
  seen = student_dataset(recipe, dataset)
  if not settings.student_weights:
    return describe_file(path, seen)
  classes = pretrained.classes_of(
    settings.model, shape_alone(seen), path, 'student'
  )
  own = f'{classes} classes' if classes else 'no head'
  head = (
    'with its head'
    if classes == wanted
    else f'but for a fresh head of {wanted} classes (it has {own})'
  )
  return (
    f'{path} is where training starts, {head}; images are '
    f'normalised as {settings.model} has them in keras.applications'
  )


def describe_file(path: str, dataset: datasets.Dataset) -> str:
  """Returns what training takes from a `.keras` file, in words.

  Args:
    path: The file, from which a network can be trained for the images.
    dataset: The images as the network sees them.
  """
  model, wanted = model_files.load(path), len(dataset.label_names)
  (image,), (outputs,) = model.inputs, model.outputs
  said, own = f'{path} is where training starts', image.shape[1:3]
  if outputs.shape[-1] != wanted:
    said += (
      f', but for a fresh last layer of {wanted} classes (it has '
      f'{outputs.shape[-1]})'
    )
  if own not in ((None, None), dataset.image_shape[:2]):
    height, width = dataset.image_shape[:2]
    said += f'; it sees {height}x{width} pixels in place of {own[0]}x{own[1]}'
  return said + _of_its_layers(model)


def _of_its_layers(model: keras.Model) -> str:
  """Returns what a file's layers bring into training, in words; '' if none.

  Args:
    model: Is thawed, as one that is frozen as a whole is for training.
  """
  moved = _size(model.trainable_weights)
  losses = [weight.regularizer for weight in model.trainable_weights]
  losses += [layer.activity_regularizer for layer in graph.flat_layers(model)]
  zoo.thaw(model)
  whole, said = _size(model.trainable_weights), ''
  if not moved:
    said += '; its layers, all of them frozen, are trained'
  elif moved < whole:
    said += f'; {whole - moved:,} of its {whole:,} weights stay frozen'
  if any(losses):
    said += '; its regularizers count in the loss, beside the weight decay'
  return said


def _size(weights: list[keras.Variable]) -> int:
  return sum(int(np.prod(weight.shape)) for weight in weights)


def count_parameters(model: keras.Model) -> int:
  """Returns the number of weights that training moves, frozen or not."""
  statistics = {'moving_mean', 'moving_variance'}
  return onnx_models.count_parameters(model) + _size(
    [weight for weight in model.weights if weight.name not in statistics]
  )
