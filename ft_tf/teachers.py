"""A name, a file or weights to a `Teacher`, which is loaded once and handed on.

Whoever needs the teacher takes a `Teacher`, never a path. Only processes that
train for another open its file again.
"""

import dataclasses
import functools
import json
import sys

import keras
import numpy as np

from ft_tf import errors, recipes, run_dir, specs
from ft_tf.data import datasets, example_sets, sampling
from ft_tf.evaluation import inference, metrics, predictors
from ft_tf.methods import base
from ft_tf.models import (
  checks,
  folding,
  heads,
  layers,
  model_files,
  onnx_files,
  onnx_models,
  origins,
  pretrained,
  seeds,
  standard,
  zoo,
)
from ft_tf.signals import compiled, constant

_JUDGED_BY = 16  # images that tell probabilities from logits


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
  """A trained classifier and what was computed of it so far.

  Attributes:
    model: From raw images `[B, H, W, C]` to logits `[B, classes]`, without
      models in it; frozen.
    path: The `.keras` file that holds this very model; '' while there is none.
    given_as: What messages call it.
    original: The model as the user's file holds it; None: there is no such
      file.
    notes: What was done to the original, in words.
  """

  model: keras.Model
  path: str
  given_as: str
  original: keras.Model | None = None
  notes: tuple[str, ...] = ()
  _loading_draws: int | None = None
  _logits: dict = dataclasses.field(default_factory=dict, repr=False)
  _signals: dict = dataclasses.field(default_factory=dict, repr=False)

  def __post_init__(self) -> None:
    self.model.trainable = False

  @functools.cached_property
  def sha256(self) -> str:
    """The SHA-256 of the file, in hexadecimal."""
    return run_dir.digest(self.path)

  @functools.cached_property
  def seed_draws(self) -> int:
    """The seeds that Keras draws to load the file; see `models.seeds`."""
    if self._loading_draws is not None:
      return self._loading_draws
    # The teacher was changed after it was loaded, and its file is another.
    return model_files.seed_draws(model_files.load(self.path))

  def stored_at(self, path: str) -> 'Teacher':
    """Returns this teacher once `path` holds it; nothing is computed again."""
    return dataclasses.replace(self, path=path)

  def logits(self, examples: example_sets.AnyExamples) -> np.ndarray:
    """Returns the logits `[N, classes]` float32, computed once for the images.

    Batch norm is folded, as in the signal and in what is exported.

    Raises:
      UsageError: a logit is not finite.
    """
    # Different images may be made of the same records.
    key = examples.digest, tuple(examples.images.shape), examples.preprocessing
    if key not in self._logits:
      self._logits[key] = metrics.logits(self._predict, examples.images)
    return self._logits[key]

  def signal(
    self, methods: list[base.Method], precision: str
  ) -> constant.ConstantSignal:
    """Returns the signals of some loss terms, compiled once for equal terms.

    Args:
      methods: The terms.
      precision: Keras's dtype policy that the teacher computes in.
    """
    # Two terms that agree in all of this have the same signal; the frozen
    # models are handed down, too, so that equal ones are one object.
    key = (
      precision,
      *(
        (
          json.dumps(method.signal_key, sort_keys=True),
          *map(id, method.frozen),
          *(array.tobytes() for array in method.constants),
        )
        for method in methods
      ),
    )
    if key not in self._signals:
      signal = compiled.compile_signal(self.model, methods, precision)
      # The terms are kept, so that no other model gets the id of a frozen one.
      self._signals[key] = signal, methods
    return self._signals[key][0]

  @functools.cached_property
  def _predict(self) -> inference.Predictor:
    return predictors.KerasPredictor(
      folding.fold(self.model), given=self.given_as
    )


def resolve(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  original: keras.Model | None = None,
) -> Teacher | None:
  """Returns the trained teacher that a recipe gives, and prints what was done.

  Args:
    recipe: Its `teacher` decides: a `.keras` file, unless it gets a new head;
      an `.onnx` file; or a network and weights with a head of the data set's
      classes.
    dataset: The images.
    original: The model of the file if it is loaded already.

  Returns:
    The teacher; None if the recipe has a network to train.

  Raises:
    UsageError: it is not of the data, gives values that are not finite, or
      gives probabilities and does not show that by a softmax at its end.
  """
  settings = recipe.teacher
  zoo.check_weights(settings.model, settings.teacher_weights, 'teacher')
  from_file = model_files.is_teacher_file(settings.model)
  if from_file and original is None:
    original = model_files.load(settings.model)
  if not is_given(recipe, dataset, original):
    return None
  model, notes = fit(settings, dataset, original)
  for note in notes:
    print(f'teacher: {note}', file=sys.stderr, flush=True)
  # What a run keeps of an ONNX file is a .keras file around it.
  as_in_file = model_files.is_file(settings.model) and not notes
  teacher = Teacher(
    model=model,
    path=settings.model if as_in_file else '',
    given_as=f'--teacher={settings.model}',
    original=original,
    notes=tuple(notes),
    _loading_draws=model_files.seed_draws(original) if as_in_file else None,
  )
  outputs = teacher.logits(sampling.sample(dataset.train, _JUDGED_BY))
  if (
    from_file
    and settings.teacher_outputs == 'auto'
    and heads.look_like_probabilities(outputs)
  ):
    raise errors.UsageError(
      f'--teacher={settings.model} seems to give probabilities, and does not '
      'end in softmax or sigmoid: give --teacher_outputs=probabilities, or '
      '=logits if they are logits'
    )
  return teacher


def fit(
  settings: recipes.Teacher,
  dataset: datasets.Dataset,
  original: keras.Model | None,
) -> tuple[keras.Model, list[str]]:
  """Returns a trained teacher's model for the images, and what was done to it.

  Args:
    settings: The file, or network and weights, and what is known of them.
    dataset: The images.
    original: The model of the file; None: there is none.

  Returns:
    From raw images to logits without models in it, itself if it is so already;
    and a line for each thing that was done, none if nothing was.

  Raises:
    UsageError: it is not of the data.
  """
  if original is None:
    model = zoo.build(
      settings.model,
      specs.shape_alone(dataset),
      weights=settings.teacher_weights,
      preprocessing=settings.preprocessing,
      role='teacher',
    )
    note = weights_note(
      settings,
      f'has a head of {len(dataset.label_names)} classes and is taken as '
      'trained',
    )
    return model, [note]
  fixes = {'classes_fix': zoo.NEW_HEAD_FIX}
  kind = onnx_models.describe(original)
  _check(original, settings.model, dataset, **({} if kind else fixes))
  model, notes = standard.standardize(
    original,
    outputs=settings.teacher_outputs,
    preprocessing=settings.preprocessing,
    image_shape=dataset.image_shape,
  )
  return model, [kind, *notes] if kind else notes


def load(path: str, dataset: datasets.Dataset) -> Teacher:
  """Returns the teacher of a run, from its `model.keras`.

  Args:
    path: The file.
    dataset: The images.

  Raises:
    UsageError: it is not of the data, or is the ONNX file that such a model is
      made of.
  """
  if onnx_files.is_onnx(path):
    raise errors.UsageError(
      f'--teacher={path}: give the model.keras that ft-tf train-teacher '
      f'--teacher={path} writes, which has its preprocessing'
    )
  original = model_files.load(path)
  _check(original, path, dataset)
  with seeds.counted_draws() as draws:
    model, _ = standard.standardize(original, image_shape=dataset.image_shape)
  return Teacher(
    model=model,
    path=path,
    given_as=f'the teacher {path}',
    _loading_draws=model_files.seed_draws(original) + draws.count,
  )


def _check(
  model: keras.Model, path: str, dataset: datasets.Dataset, **fixes: str
) -> None:
  checks.check_fits(
    model,
    f'--teacher={path}',
    image_shape=dataset.image_shape,
    label_names=dataset.label_names,
    size_flags='--image_size and --channels',
    **fixes,
  )


def is_given(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  original: keras.Model | None,
) -> bool:
  """Tells whether the teacher is trained: a file, or weights of the classes.

  A file of other classes is where training starts if it gets a new head.

  Args:
    recipe: The recipe.
    dataset: The images.
    original: The model of the teacher's file; None: there is none.

  Raises:
    UsageError: there are weights that are not for the teacher, or an ONNX file
      is to be trained.
  """
  settings = recipe.teacher
  if original is not None:
    checks.check_classifier(original, f'--teacher={settings.model}')
    if checks.has_classes(original, len(dataset.label_names)):
      return True
    if recipe.new_head and onnx_models.holds(original):
      raise errors.UsageError(
        f'--teacher={settings.model} has {original.outputs[0].shape[-1]} '
        f'classes, the data set {len(dataset.label_names)}, and an ONNX file '
        'cannot be trained with --new_head: fine-tune it where it was made, '
        'and export it again'
      )
    return not recipe.new_head
  if not settings.teacher_weights:
    return False
  classes = pretrained.classes_of(
    settings.model, specs.shape_alone(dataset), settings.teacher_weights
  )
  return classes == len(dataset.label_names)


def source_file(settings: recipes.Teacher) -> str:
  """Returns the file that the teacher comes or starts from; '' if none."""
  if model_files.is_teacher_file(settings.model):
    return settings.model
  return settings.teacher_weights


def build(recipe: recipes.Recipe, spec: layers.Spec) -> keras.Model:
  """Returns the network to train: fresh, or with the weights it starts from.

  Raises:
    UsageError: there is no such network, it does not fit the images, or it is
      fresh and the recipe has a rate for layers that are not.
  """
  model = zoo.build(
    recipe.teacher.model,
    spec,
    weights=recipe.teacher.teacher_weights,
    preprocessing=recipe.teacher.preprocessing,
    new_head=recipe.new_head,
    role='teacher',
  )
  origins.check_rate(model, recipe.teacher.backbone_rate, 'teacher')
  return model


def network(
  recipe: recipes.Recipe, dataset: datasets.Dataset, given: Teacher | None
) -> keras.Model:
  """Returns the given teacher's model, or the untrained network of a recipe.

  Args:
    recipe: The recipe.
    dataset: The images.
    given: The value of `resolve` for these.
  """
  if given is not None:
    return given.model
  return build(recipe, specs.spec(recipe, dataset))


def describe_start(settings: recipes.Teacher, dataset: datasets.Dataset) -> str:
  """Returns what a teacher's training starts from, in words; '' if fresh."""
  if model_files.is_file(settings.model):
    return specs.describe_file(settings.model, dataset)
  if not settings.teacher_weights:
    return ''
  return weights_note(
    settings, 'is where training starts, but for a fresh head'
  )


def weights_note(settings: recipes.Teacher, what: str) -> str:
  """Returns what is done with given weights, and what they see, in words."""
  images = f'with --preprocessing={settings.preprocessing}'
  if settings.preprocessing == 'none':
    images = f'as {settings.model} has them in keras.applications'
  return f'{settings.teacher_weights} {what}; images are normalised {images}'
