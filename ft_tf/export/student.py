"""The export folder: every format of a student, each with its figures."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ft_tf import errors, run_dir, storage
from ft_tf.data import datasets, sampling
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import (
  calibration_images,
  formats,
  latency,
  measuring,
  saved_model,
)
from ft_tf.export import folder as export_folder
from ft_tf.models import checks, model_files, standard

_LOOKED_AT = 64  # images that tell whether a student is dead
_STUDYING = 'looking for the layers that lose most in int8'


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
  ranges: Mapping[str, tuple[float, float]] | None = None,
  is_compared: bool = False,
  teacher: str | None = None,
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
      `labels.txt`, `export.json`, `predictions.json`, `latency.json` (as of
      `latency.measure_all`) and `layers.json` (as of `layer_study.study`).
    loaded: The model of the file if it is loaded already.
    status: Is told what is being done.
    options: What it makes; `check_drop` reads the rest.
    ranges: As of `formats.Source`.
    is_compared: Whether it is the export of a network that a student is
      compared with: its Keras model and the files that tables show, fp32 and
      int8, alone; without `latency.json` and `layers.json`.
    teacher: The teacher's .tflite file, timed beside the student's; None:
      there is none.

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
  if is_compared:
    chosen = tuple(formats.FORMATS[name] for name in formats.COMPARED)
  student = model_files.load(model) if loaded is None else loaded
  made_of = export_folder.describe_source(
    model, options.weight_scales, ranges, dataset.describe_test()
  )
  if os.path.exists(folder):
    there = export_folder.formats_there(folder, made_of)
    wanted = there.union(each.name for each in chosen)
    chosen = tuple(f for f in formats.FORMATS.values() if f.name in wanted)
    figures = run_dir.RunDir(folder).read('export.json')
    lost = _lost(folder, figures)
    if lost:
      print(
        f'export: {os.path.join(folder, lost)} is missing or has another size; '
        'all files are made again',
        file=sys.stderr,
        flush=True,
      )
    elif {each.name for each in chosen} <= there:
      return figures
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
  calibration = calibration_images.choose(dataset)
  logits = metrics.logits(
    predictors.KerasPredictor(student, given=model), calibration[:_LOOKED_AT]
  )
  is_dead = bool(np.ptp(logits, axis=0).max() == 0)
  if is_dead:
    chosen = tuple(each for each in chosen if not each.quantised)
  os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
  with storage.replacing(folder) as scratch:
    os.mkdir(scratch)
    source = formats.Source(
      student,
      calibration,
      label_names=tuple(dataset.label_names),
      weight_scales=options.weight_scales,
      ranges=ranges,
    )
    made = _makeable(source, chosen, status)
    names = _write_models(
      source, dataset, made, scratch, status, serves=not is_compared
    )
    with open(
      os.path.join(scratch, 'labels.txt'), 'w', encoding='utf-8'
    ) as file:
      file.writelines(f'{name}\n' for name in dataset.label_names)
    figures, predictions = measuring.measure(
      scratch, names, dataset, given=model, status=status
    )
    written = run_dir.RunDir(scratch)
    image = dataset.test.images[0]
    if is_compared:
      for each in made:
        path = os.path.join(scratch, each.file)
        figures[each.file]['latency_ms'] = latency.measure(path, image)
    else:
      status('timing all files in turn')
      timed = _time(scratch, made, image, teacher)
      for name, entry in timed['files'].items():
        figures[name]['latency_ms'] = entry['1'] | {'threads': 1}
      written.write('latency.json', timed)
      if not is_dead:
        _study(source, status, written)
    written.write(
      export_folder.MADE_OF,
      made_of | {'formats': [each.name for each in chosen]},
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


def _lost(folder: str, figures: Any) -> str:
  """Returns a file that an export lacks by its figures; '' if it has all."""
  if not isinstance(figures, dict):
    return 'export.json'
  for name, entry in figures.items():
    size = measuring.size(os.path.join(folder, name))
    if not isinstance(entry, dict) or entry.get('bytes') != size:
      return name
  return ''


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
  images = sampling.sample(dataset.train, calibration_images.LEAST).images[:]
  calibration_images.check_count(len(images))
  source = formats.Source(student, images, weight_scales=options.weight_scales)
  for each in formats.choose(options.formats):
    if each.name not in formats.DEFAULT:
      each.check_untrained(source)


def _makeable(
  source: formats.Source,
  chosen: Iterable[formats.Format],
  status: Callable[[str], None],
) -> list[formats.Format]:
  """Returns the formats that there is a use for; tells of the others."""
  makeable = []
  for each in chosen:
    if each.untrained is not None:
      status(_STUDYING)
    reason = each.why_needless(source)
    if reason:
      status(f'{each.file} is not made: {reason}')
    else:
      makeable.append(each)
  return makeable


def _write_models(
  source: formats.Source,
  dataset: datasets.Dataset,
  chosen: Iterable[formats.Format],
  folder: str,
  status: Callable[[str], None],
  *,
  serves: bool,
) -> list[str]:
  """Writes the Keras model, the SavedModel if it `serves`, and the formats.

  Returns:
    The names of the files.
  """
  source.of_bytes.save(os.path.join(folder, run_dir.KERAS))
  names = [run_dir.KERAS]
  if serves:
    status(f'converting to {run_dir.SAVED_MODEL}')
    saved_model.write(
      source.of_bytes,
      os.path.join(folder, run_dir.SAVED_MODEL),
      preprocessing=dataset.test.preprocessing,
    )
    names.append(run_dir.SAVED_MODEL)
  for each in chosen:
    status(f'converting to {each.file}')
    with open(os.path.join(folder, each.file), 'wb') as file:
      file.write(each.make(source))
    names.append(each.file)
  return names


def _time(
  folder: str,
  chosen: Iterable[formats.Format],
  image: np.ndarray,
  teacher: str | None,
) -> dict[str, Any]:
  """Returns what files of an export take on this machine."""
  if teacher is not None and not os.path.exists(teacher):
    teacher = None  # TFLite lacks some of its operations.
  files = {each.file: os.path.join(folder, each.file) for each in chosen}
  return latency.measure_all(files, image, teacher)


def _study(
  source: formats.Source,
  status: Callable[[str], None],
  written: run_dir.RunDir,
) -> None:
  """Writes which layers lose most in int8, if the twin knows them all."""
  status(_STUDYING)
  try:
    studied = source.studied
  except errors.UsageError as error:
    status(f'the layers are not looked at in int8: {error}')
    return
  written.write('layers.json', studied)
