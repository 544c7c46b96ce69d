"""The export folder: every format of a student, each with its figures."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from ft_tf import errors, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.evaluation import predictors
from ft_tf.export import (
  formats,
  measuring,
  saved_model,
  tflite_file,
  tflite_metadata,
)
from ft_tf.models import checks, model_files, standard

# 200 left a worst logit difference of 3.3 in a ResNet-20, 1,000 one of 0.55.
CALIBRATION_IMAGES = 1000

_LEAST_IMAGES = 20
_LOOKED_AT = 64  # images that tell whether a student is dead

_MADE_OF = '.made_of.json'
_MADE_OF_EARLIER = '.model_sha256'
# Of the files and of export.json; another one is not read.
_LAYOUT = 2


@dataclasses.dataclass(frozen=True)
class Options:
  """What an export makes besides the default files, and what it may lose.

  Attributes:
    formats: Names of further formats, of `formats.FORMATS`.
    max_drop: How much less accurate than the Keras student a file may be, in
      percentage points of the test images.
    weight_scales: As of `convert.tflite_int8`.
  """

  formats: tuple[str, ...] = ()
  max_drop: float = 1.0
  weight_scales: str = 'channel'

  def __post_init__(self) -> None:
    formats.choose(self.formats)
    if not 0 <= self.max_drop <= 100:
      raise errors.UsageError(
        f'--max_drop={self.max_drop:g}: give percentage points, 0 to 100'
      )


DEFAULTS = Options()


def print_status(status: str) -> None:
  """Prints what an export does to standard error."""
  print(f'export: {status}', file=sys.stderr, flush=True)


def export(
  model: str,
  dataset: datasets.Dataset,
  folder: str,
  *,
  loaded: keras.Model | None = None,
  status: Callable[[str], None] = print_status,
  options: Options = DEFAULTS,
) -> measuring.Figures:
  """Makes the export folder of a student, whole or not at all.

  Every file takes raw images, 0..255; the normalisation is inside. It gives
  logits, a softmax at the student's end is left out. A folder that is already
  there is returned as it stands; if it lacks formats, it is made anew.

  Args:
    model: The student's `.keras` file.
    dataset: Calibrates on its training images, measures on its test images;
      they are made smaller to the student's size.
    folder: Becomes `student.keras`, `saved_model/`, a file of each format,
      `labels.txt`, `export.json` and `predictions.json`.
    loaded: The model of the file if it is loaded already.
    status: Is told what is being done.
    options: What it makes; `check_drop` reads the rest.

  Returns:
    What `export.json` says: for each file `bytes`, `accuracy` on the test
    split, `agreement` (share of test images with the same top class as the
    Keras student), `max_logit_difference` and `mean_logit_difference` to it,
    `worst_class` (that loses most accuracy), `examples`, `preprocessing` (how
    the images that it was measured on were made of the stored ones, see
    `image_ops.Preprocessing.as_json`), and for .tflite and .onnx files
    `latency_ms`, `input` and `output` (`dtype`, `shape`, and of integers
    `scale` and `zero_point`: a logit is scale times the integer minus the zero
    point) and `flexible_batch`.

  Raises:
    UsageError: the model is not one for the data set, gives values that are not
      finite, the training images do not serve to calibrate, or the folder holds
      something else than its export.
    TrainingError: the student gives the same logits for every image. Its files
      in real numbers are there.
  """
  chosen = formats.choose(options.formats)
  student = model_files.load(model) if loaded is None else loaded
  made_of = {
    'layout': _LAYOUT,
    'model_sha256': run_dir.digest(model),
    'weight_scales': options.weight_scales,
  }
  if os.path.exists(folder):
    there = _formats_there(folder, made_of)
    chosen = formats.choose((*there, *(each.name for each in chosen)))
    if {each.name for each in chosen} <= there:
      return run_dir.RunDir(folder).read('export.json')
  checks.check_classifier(student, f'--model={model}')
  student, changes = standard.standardize(student)
  for line in changes:
    print(f'export: {line}', file=sys.stderr, flush=True)
  dataset = dataset.for_model(student.input_shape[1:])
  checks.check_fits(
    student,
    f'--model={model}',
    image_shape=dataset.image_shape,
    label_names=dataset.label_names,
  )
  checks.check_not_quantized(student, f'--model={model}')
  student, changes = standard.standardize(
    student, image_shape=dataset.image_shape
  )
  for line in changes:
    print(f'export: {line}', file=sys.stderr, flush=True)
  calibration = _calibration_images(dataset)
  is_dead = _is_constant(student, calibration)
  if is_dead:
    chosen = tuple(each for each in chosen if not each.quantised)
  os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
  with run_dir.replacing(folder) as scratch:
    os.mkdir(scratch)
    source = formats.Source(student, calibration, options.weight_scales)
    names = _write_models(source, dataset, chosen, scratch, status)
    with open(
      os.path.join(scratch, 'labels.txt'), 'w', encoding='utf-8'
    ) as file:
      file.writelines(f'{name}\n' for name in dataset.label_names)
    figures, predictions = measuring.measure(
      scratch, names, dataset, given=model, status=status
    )
    written = run_dir.RunDir(scratch)
    written.write(
      _MADE_OF, made_of | {'formats': [each.name for each in chosen]}
    )
    written.write('export.json', figures)
    written.write(run_dir.PREDICTIONS, predictions, indent=None)
  if is_dead:
    raise errors.TrainingError(
      f'{model} gives the same logits for every image, so that no int8 file '
      f'can be made: {os.path.join(folder, run_dir.FLOAT32)} is kept; train '
      'again with a lower --student_learning_rate or another --seed'
    )
  return figures


def is_of(folder: str, model: str) -> bool:
  """Tells whether a folder is the export of a model's file."""
  made_of = run_dir.RunDir(folder).read(_MADE_OF) or {}
  return made_of.get('model_sha256') == run_dir.digest(model)


def check_untrained(
  student: keras.Model, dataset: datasets.Dataset, options: Options
) -> None:
  """Looks for what would fail an export after hours of training.

  The student is converted to the formats that were asked for; whether it
  converts to the default ones the doctor says.

  Args:
    student: From raw images to logits.
    dataset: Of the student's size.
    options: As of `export`.

  Raises:
    UsageError: a format lacks operations of the student, which are named, or
      there are too few training images.
  """
  images = sampling.sample(dataset.train, _LEAST_IMAGES).images[:]
  _check_count(len(images))
  source = formats.Source(student, images, options.weight_scales)
  for each in formats.choose(options.formats):
    if each.name not in formats.DEFAULT:
      each.make(source)


def _check_count(images: int) -> None:
  if images < _LEAST_IMAGES:
    raise errors.UsageError(
      f'int8 takes its ranges from training images, {images} are too few: '
      f'give {_LEAST_IMAGES} or more'
    )


def _formats_there(folder: str, made_of: dict[str, Any]) -> set[str]:
  """Returns the formats of an export that is made of the same.

  Raises:
    UsageError: it is the export of something else, or of an earlier layout.
  """
  known = run_dir.RunDir(folder).read(_MADE_OF)
  if not isinstance(known, dict):
    what = 'no export' if known is None else 'an export of an earlier version'
    if os.path.exists(os.path.join(folder, _MADE_OF_EARLIER)):
      what = 'an export of an earlier version'
    raise errors.UsageError(
      f'{folder} holds {what}: delete it, or give another --workdir'
    )
  if known.get('layout') != _LAYOUT:
    raise errors.UsageError(
      f'{folder} holds an export of another version: delete it, or give '
      'another --workdir'
    )
  for key, what in (
    ('model_sha256', 'another model'),
    ('weight_scales', 'other --weight_scales'),
  ):
    if known.get(key) != made_of[key]:
      raise errors.UsageError(
        f'{folder} holds the export of {what}: give another --workdir'
      )
  return set(known['formats'])


def _calibration_images(dataset: datasets.Dataset) -> np.ndarray:
  """Returns raw training images, `[N, H, W, C]` uint8.

  Raises:
    UsageError: they are too few, or all alike.
  """
  images = sampling.sample(dataset.train, CALIBRATION_IMAGES).images[:]
  _check_count(len(images))
  if (images == images[:1]).all():
    raise errors.UsageError(
      f'int8 takes its ranges from training images, and {len(images)} of them '
      'are all the same: give images that differ'
    )
  return images


def _is_constant(student: keras.Model, images: np.ndarray) -> bool:
  """Tells whether a student gives the same logits for every image."""
  logits = predictors.KerasPredictor(student)(images[:_LOOKED_AT])
  return bool(np.isfinite(logits).all() and np.ptp(logits, axis=0).max() == 0)


def recorded_preprocessing(model: str) -> dict[str, Any]:
  """Returns how images were made for a model, as its folder has it.

  Args:
    model: A file or folder of an export folder, or the `model.keras` of a run.

  Returns:
    `resizing`, of images that were resized, and `image_size`, the first height
    and width that they were resized to, if these are equal; what is not known
    is left out.
  """
  folder, name = os.path.split(os.path.abspath(model))
  entries = run_dir.RunDir(folder).read('export.json')
  if isinstance(entries, dict) and name in entries:
    known = entries[name].get('preprocessing')
    if known is None:  # of an export before these were written
      return _of_recipe(os.path.dirname(folder))
    size = known['sizes'][0] if known['sizes'] else (0, 0)
    return _known(known['resizing'], size[0] if size[0] == size[1] else 0)
  if os.path.join(folder, name) == run_dir.RunDir(folder).model:
    return _of_recipe(folder)
  return {}


def _of_recipe(folder: str) -> dict[str, Any]:
  """Returns what the recipe of a run says of images, if one is there."""
  recipe = run_dir.RunDir(folder).read('recipe.json')
  data = recipe.get('data') if isinstance(recipe, dict) else None
  if not isinstance(data, dict):
    return {}
  return _known(data.get('resizing'), data.get('image_size'))


def _known(resizing: str | None, image_size: int | None) -> dict[str, Any]:
  if not image_size:
    return {}
  return {'resizing': resizing, 'image_size': image_size}


def _write_models(
  source: formats.Source,
  dataset: datasets.Dataset,
  chosen: Iterable[formats.Format],
  folder: str,
  status: Callable[[str], None],
) -> list[str]:
  """Writes every format of the student; returns the names of the files."""
  source.of_bytes.save(os.path.join(folder, run_dir.KERAS))
  status(f'converting to {run_dir.SAVED_MODEL}')
  saved_model.write(
    source.of_bytes,
    os.path.join(folder, run_dir.SAVED_MODEL),
    preprocessing=dataset.test.preprocessing,
  )
  description = tflite_metadata.Description(
    name=source.student.name,
    about=f'Classifies images into {len(dataset.label_names)} classes.',
    image_shape=dataset.image_shape,
    label_names=tuple(dataset.label_names),
  )
  names = [run_dir.KERAS, run_dir.SAVED_MODEL]
  for each in chosen:
    status(f'converting to {each.file}')
    content = each.make(source)
    if each.file.endswith('.tflite'):
      content = tflite_file.describe(content, description)
    with open(os.path.join(folder, each.file), 'wb') as file:
      file.write(content)
    names.append(each.file)
  return names
