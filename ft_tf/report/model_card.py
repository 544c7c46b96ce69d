"""The model card of an export, in Markdown, from the files of its folder.

After Mitchell et al., Model Cards for Model Reporting, 2019. It states what the
folder has figures for, and what nobody measured; it judges nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ft_tf import json_files, recipes, run_dir, storage
from ft_tf.report import (
  card_classes,
  export_tables,
  predictions,
  summary,
  tables,
)

NAME = 'model_card.md'

# Numbers that every method has.
_NUMBERS = {
  'epochs': 'epochs',
  'learning_rate': 'learning rate',
  'weight_decay': 'weight decay',
  # Recorded where they are not what they were for all.
  'backbone_rate': 'factor of the rate of pretrained layers',
  'label_smoothing': 'label smoothing',
  'ema': 'moving average of the weights by',
}


@json_files.explains
def write(root: run_dir.RunDir) -> str:
  """Writes `export/model_card.md`, whole or not at all; returns its path.

  Args:
    root: The folder that holds `export/`: that of a compression, or one that
      `ft-tf export` was given. What is not in it is left out.
  """
  path = os.path.join(root.path, 'export', NAME)
  text = '\n'.join(_lines(root)) + '\n'
  with storage.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(text)
  return path


def _lines(root: run_dir.RunDir) -> Iterator[str]:
  export = root.read('export/export.json')
  # A folder that an export was put into may hold the run of another model.
  exported = _find_run(root)
  recipe = root.read('recipe.json') if exported else {}
  runs = summary.read_runs(root) if exported else []
  environments = root.read('environment.json') if exported else None
  predicted = root.read(f'export/{run_dir.PREDICTIONS}') or {}
  student = predictions.parse(predicted.get(run_dir.KERAS))
  int8 = predictions.parse(predicted.get(run_dir.INT8))
  measured = root.read('export/latency.json')
  yield f'# {_title(recipe)}'
  yield from ('', '## Use', '')
  yield from _use(export, student)
  yield from ('', '## Images', '')
  yield from _images(recipe.get('data') or {}, export)
  if 'teacher' in recipe and 'student' in recipe:
    yield from ('', '## Teacher', '')
    yield from _teacher(recipe, runs)
  if exported and 'student' in recipe:
    yield from ('', '## Training', '')
    yield from _training(recipe, runs)
    if os.path.basename(exported.path) == run_dir.QAT:
      yield from _quantisation(exported)
  yield from ('', '## Files', '')
  yield from _files(export, measured, environments)
  studied = root.read('export/layers.json')
  if studied:
    yield from ('', '## Layers that lose most in int8', '')
    yield tables.show_names(*export_tables.layers(studied))
    yield from ('', tables.escape_markdown(export_tables.layers_note(studied)))
  if student is not None:
    yield from ('', '## Accuracy by class', '')
    yield from card_classes.by_class(student, int8)
    yield from ('', '## Mistakes', '')
    yield from card_classes.mistakes(student)
  yield from ('', '## Limits', '')
  yield from _limits(recipe, export, student, measured)


def _find_run(root: run_dir.RunDir) -> run_dir.RunDir | None:
  """Returns the run whose model was exported; None if it is elsewhere."""
  made_of = (root.read('export/.made_of.json') or {}).get('model_sha256')
  for run in (root.child(run_dir.QAT), root.child('student'), root):
    there = root.begun() and os.path.exists(run.model)
    if there and run_dir.digest(run.model) == made_of:
      return run
  return None


def _title(recipe: Mapping[str, Any]) -> str:
  if 'student' not in recipe:
    return 'Model card of an exported classifier'
  student = tables.show_name(os.path.basename(recipe['student']['model']))
  return (
    f'Model card: {student} on {tables.show_name(recipe["data"]["dataset"])}'
  )


def _use(
  export: Mapping[str, Any], student: predictions.Predictions | None
) -> Iterator[str]:
  steps = export[run_dir.KERAS]['preprocessing']
  order = 'red, green, blue' if steps['channels'] == 3 else 'grey'
  yield (
    f'- **Input**: one image, {steps["height"]}x{steps["width"]} pixels, '
    f'{steps["channels"]} channel{"s" * (steps["channels"] > 1)} ({order}), '
    'raw values of 0 to 255. The normalisation is inside.'
  )
  yield f'- **Other sizes**: {_resizing(steps)}'
  yield (
    '- **Output**: a logit for each class, in the order of `labels.txt`. '
    'Integers become logits by the scale and zero point below, logits '
    'probabilities by softmax.'
  )
  if student is not None:
    names = [
      tables.show_name(name) for name in student.classes[: card_classes.MOST]
    ]
    rest = len(student.classes) - len(names)
    yield (
      f'- **Classes** ({len(student.classes):,}): {", ".join(names)}'
      + (f' and {rest:,} more, see `labels.txt`' if rest else '')
    )


def _resizing(steps: Mapping[str, Any]) -> str:
  """Returns how an image of any size becomes one that was measured on."""
  sizes = ', then to '.join(
    f'{height}x{width}' for height, width in steps['sizes']
  )
  if not sizes:
    return 'none were measured; the images of the data set were not resized.'
  how = (
    f'{steps["interpolation"]} interpolation'
    f'{" with antialiasing" * steps["antialias"]}'
  )
  if 'central_fraction' in steps:
    height, width = steps['sizes'][0]
    fraction = f'{steps["central_fraction"]:.3g}'
    part = f'square, {fraction} of the shorter side'
    if height != width:
      part = f'part, {fraction} of the largest of {height} to {width}'
    return f'the middle {part}, resized to {sizes} by {how}.'
  return f'the whole image, resized to {sizes} by {how}.'


def _images(
  data: Mapping[str, Any], export: Mapping[str, Any]
) -> Iterator[str]:
  if data:
    held_out = data.get('validation_examples')
    yield f'- **Data set**: {tables.show_name(data["dataset"])}'
    yield f'- **Training**: split {tables.show_name(data["train_split"])}' + (
      f', without {held_out:,} images for validation' if held_out else ''
    )
  if data.get('unlabeled'):
    yield f'- **Without labels**: {tables.show_name(data["unlabeled"])}'
  split = f', split {tables.show_name(data["test_split"])}' if data else ''
  examples = export[run_dir.KERAS]['examples']
  yield f'- **Test**: {examples:,} images{split}'


def _teacher(
  recipe: Mapping[str, Any], runs: Sequence[summary.Run]
) -> Iterator[str]:
  teacher = recipe['teacher']
  from_file = bool(recipe.get('teacher_sha256'))
  is_trained = any(r.result.get('steps') for r in runs if r.method == 'teacher')
  origin = 'given' if from_file else 'trained in this run'
  if from_file and is_trained:
    origin = 'fine-tuned in this run'
  name = os.path.basename(str(teacher['model']))
  yield f'- **Network**: {tables.show_name(name)}, {origin}'
  if from_file:
    yield f'- **SHA-256 of its file**: `{recipe["teacher_sha256"]}`'
  for row in summary.make_rows([r for r in runs if r.method == 'teacher']):
    yield f'- **Parameters**: {row.parameters:,}'
    yield f'- **Test accuracy**: {100 * row.mean:.2f} %'


def _student_file(student: Mapping[str, Any]) -> str:
  """Returns the name of the file that a recipe's student starts from."""
  return os.path.basename(student.get('student_weights') or student['model'])


def _training(
  recipe: Mapping[str, Any], runs: Sequence[summary.Run]
) -> Iterator[str]:
  student = recipe['student']
  if student.get('method'):
    yield f'- **Method**: {tables.show_name(summary.label(student["method"]))}'
  if recipe.get('student_sha256'):
    yield (
      '- **Trained from**: '
      f'{tables.show_name(_student_file(student))}, '
      f'SHA-256 `{recipe["student_sha256"]}`'
    )
  numbers = [
    f'{text} {student[name]:g}'
    for name, text in _NUMBERS.items()
    if name in student
  ]
  if student.get('optimizer') == recipes.ADAMW:
    numbers.insert(0, 'AdamW')
  yield (
    f'- **Numbers**: {", ".join(numbers)}, seed {recipe["seed"]}; all of them '
    'are in `recipe.json` in the folder above this one'
  )
  for row in summary.make_rows([r for r in runs if r.method != 'teacher']):
    spread = (
      '' if row.std is None else f', standard deviation {100 * row.std:.2f}'
    )
    seeds = f'{len(row.accuracies)} seed{"s" * (len(row.accuracies) > 1)}'
    yield (
      f'- **Test accuracy, {tables.show_name(row.label)}**: '
      f'{100 * row.mean:.2f} % ({seeds}{spread}; {row.parameters:,} '
      'parameters, before export)'
    )


def _quantisation(run: run_dir.RunDir) -> Iterator[str]:
  """Yields what quantisation-aware training, after the others, did."""
  qat = run.read('recipe.json')['qat']
  text = (
    f'{qat["epochs"]} epoch{"s" * (qat["epochs"] != 1)}, learning rate '
    f'{qat["learning_rate"]:g}'
  )
  result = run.read('result.json')
  if result:
    text += (
      f'; test accuracy after it {100 * result["float_accuracy"]:.2f} % in '
      f'float, {100 * result["accuracy"]:.2f} % in simulated int8'
    )
  yield f'- **Quantisation-aware training of the student**: {text}'


def _files(
  export: Mapping[str, Any],
  measured: Mapping[str, Any] | None,
  environments: list[Any] | None,
) -> Iterator[str]:
  yield tables.show_names(*export_tables.summarise(export, measured))
  yield ''
  yield export_tables.SUMMARY_NOTE
  tensors = export_tables.tensors(export)
  if tensors.rows:
    yield from ('', tables.show_names(*tensors))
  timings = export_tables.latency(export, measured)
  if timings.rows:
    yield from ('', tables.show_names(*timings), '')
    yield tables.escape_markdown(
      export_tables.latency_note(measured, environments)
    )


def _limits(
  recipe: Mapping[str, Any],
  export: Mapping[str, Any],
  student: predictions.Predictions | None,
  measured: Mapping[str, Any] | None,
) -> Iterator[str]:
  examples = export[run_dir.KERAS]['examples']
  yield (
    f'- Accuracy is that on {examples:,} test images of one data set. Images '
    'from other sources, such as another camera, light or place, were not '
    'tested.'
  )
  if student is not None:
    yield (
      f'- Every image gets one of the {len(student.classes):,} classes. Images '
      'of anything else were not tested.'
    )
    fewest = int(np.argmin(student.images))
    name = tables.show_name(student.classes[fewest])
    yield (
      f'- The class with the fewest test images, {name}, has '
      f'{int(student.images[fewest]):,}.'
    )
    yield (
      '- Confidence: the expected calibration error of the probabilities is '
      f'{student.calibration_error:.3f} on the test images.'
    )
  yield (
    '- Fairness: accuracy was measured by class, not by groups of people or by '
    'other properties of the images.'
  )
  yield (
    '- Damaged images, such as noise, blur or strong compression, and images '
    'made to mislead the network were not tested.'
  )
  if recipe.get('seeds') == 1:
    yield '- One student was trained: how far accuracy varies is not known.'
  if measured or any('latency_ms' in entry for entry in export.values()):
    yield (
      '- Latency is that of the CPU above. Phones, GPUs and accelerators were '
      'not measured.'
    )
  yield (
    '- The licences of the images and of the weights that training began from '
    'are not recorded.'
  )
