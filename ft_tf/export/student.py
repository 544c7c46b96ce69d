"""The export folder: every format of a student, each with its figures."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ft_tf import errors, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import convert, latency
from ft_tf.models import checks, model_files, standard

# 200 left a worst logit difference of 3.3 in a ResNet-20, 1,000 one of 0.55.
CALIBRATION_IMAGES = 1000

_MADE_OF = '.model_sha256'


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
) -> dict[str, dict[str, Any]]:
  """Makes the export folder of a student, whole or not at all.

  Every file takes raw images, uint8 in 0..255; the normalisation is inside. It
  gives logits, a softmax at the student's end is left out. A folder that is
  already there is returned as it stands.

  Args:
    model: The student's `.keras` file.
    dataset: Calibrates on its training images, measures on its test images;
      they are made smaller to the student's size.
    folder: Becomes `student.keras`, `saved_model/`, `student_fp32.tflite`,
      `student_fp16.tflite`, `student_int8.tflite`, `labels.txt`,
      `export.json` and `predictions.json`.
    loaded: The model of the file if it is loaded already.
    status: Is told what is being done.

  Returns:
    What `export.json` says: for each file `bytes`, `accuracy` on the test
    split, `agreement` (share of test images with the same top class as the
    Keras student), `max_logit_difference`, `examples`, `preprocessing` (how the
    images that it was measured on were made of the stored ones, see
    `image_ops.Preprocessing.as_json`), and for .tflite files `latency_ms`,
    `input_dtype`, `output_dtype` and `flexible_batch`.

  Raises:
    UsageError: the model is not one for the data set, gives values that are not
      finite, or the folder holds something else than its export.
  """
  student = model_files.load(model) if loaded is None else loaded
  digest = run_dir.digest(model)
  if os.path.exists(folder):
    return _read(folder, digest)
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
  os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
  with run_dir.replacing(folder) as scratch:
    os.mkdir(scratch)
    calibration = sampling.sample(dataset.train, CALIBRATION_IMAGES).images[:]
    status('converting')
    _write_models(student, calibration, scratch)
    with open(
      os.path.join(scratch, 'labels.txt'), 'w', encoding='utf-8'
    ) as file:
      file.writelines(f'{name}\n' for name in dataset.label_names)
    with open(os.path.join(scratch, _MADE_OF), 'w', encoding='utf-8') as file:
      file.write(digest)
    figures, predictions = _measure(scratch, dataset, model, status)
    written = run_dir.RunDir(scratch)
    written.write('export.json', figures)
    written.write(run_dir.PREDICTIONS, predictions, indent=None)
  return figures


def _read(folder: str, digest: str) -> dict[str, dict[str, Any]]:
  """Returns the figures of an export, if it is of the model of that digest."""
  try:
    with open(os.path.join(folder, _MADE_OF), encoding='utf-8') as file:
      same = file.read() == digest
  except OSError:
    same = False
  if not same:
    raise errors.UsageError(
      f'{folder} holds the export of another model: give another --workdir'
    )
  with open(os.path.join(folder, 'export.json'), encoding='utf-8') as file:
    return json.load(file)


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
  student: keras.Model, calibration: np.ndarray, folder: str
) -> None:
  """Writes every format of the student."""
  twin = convert.float32_twin(student, 'uint8')
  twin.save(os.path.join(folder, run_dir.KERAS))
  saved = os.path.join(folder, run_dir.SAVED_MODEL)
  convert.saved_model(twin, saved)
  formats = {
    run_dir.FLOAT32: convert.tflite_float32(twin, saved),
    run_dir.FLOAT16: convert.tflite_float16(twin, saved),
    run_dir.INT8: convert.tflite_int8(
      convert.float32_twin(student, 'float32'),
      calibration,
    ),
  }
  for name, content in formats.items():
    with open(os.path.join(folder, name), 'wb') as file:
      file.write(content)


def _measure(
  folder: str,
  dataset: datasets.Dataset,
  model: str,
  status: Callable[[str], None],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
  """Runs every format of a model on the test images.

  Returns:
    By name of file: the figures of `export.json`; and the predictions of the
    Keras and the int8 file, which the others hardly differ from.
  """
  test = dataset.test
  figures, predictions = {}, {}
  reference = None
  for name in run_dir.EXPORTED:
    status(f'measuring {name}')
    path = os.path.join(folder, name)
    predict = predictors.open_predictor(path)
    predict.given = f'{model}, exported as {name},'
    outputs = metrics.logits(predict, test.images)
    if reference is None:
      reference = outputs
    scores = metrics.score(outputs, test.labels)
    if name in (run_dir.KERAS, run_dir.INT8):
      predictions[name] = metrics.summarize_predictions(
        outputs, test.labels, dataset.label_names
      )
    figures[name] = {
      'bytes': _size(path),
      'accuracy': scores['accuracy'],
      'loss': scores['loss'],
      'agreement': float(
        (outputs.argmax(axis=1) == reference.argmax(axis=1)).mean()
      ),
      'max_logit_difference': float(np.abs(outputs - reference).max()),
      'examples': scores['examples'],
      'preprocessing': test.preprocessing.as_json(test.images.shape[1:]),
    }
    if isinstance(predict, predictors.LiteRTPredictor):
      figures[name] |= {
        'latency_ms': latency.measure(path, test.images[0]),
        'input_dtype': predict.input_dtype,
        'output_dtype': predict.output_dtype,
        'flexible_batch': predict.flexible_batch,
      }
  return figures, predictions


def _size(path: str) -> int:
  """Returns the bytes of a file, or of all files in a folder."""
  if os.path.isfile(path):
    return os.path.getsize(path)
  return sum(
    os.path.getsize(os.path.join(root, name))
    for root, _, names in os.walk(path)
    for name in names
  )
