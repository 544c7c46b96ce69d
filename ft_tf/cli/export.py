r"""Exports a student to SavedModel and TFLite, measured.

  ft-tf export --model=runs/student/model.keras --dataset=digits \
      --workdir=runs/student

Leaves export/ in the workdir; if it holds an export of the same model, that one
is reported. Images are converted to the size and channels that the model takes,
in the way that its run records, otherwise as compress does without a recipe.

  ft-tf export --model=runs/student --dataset=digits --workdir=runs/early

takes the folder of a student's run, or of a compression. If its training was
interrupted, the student of its newest checkpoint is exported, to
export-step-N/ in the workdir, and unfinished.json in it has step and epoch.
"""

import os
import tempfile

from absl import flags

from ft_tf import json_files, recipe_flags, run_dir
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.data import datasets
from ft_tf.evaluation import predictors
from ft_tf.export import measuring, student
from ft_tf.progress import reporter
from ft_tf.report import model_card, tables
from ft_tf.training import unfinished


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_model(
    values, "trained .keras file, or the folder of a student's run"
  )
  flag_sets.define_workdir(
    values, 'output directory; the files are in its folder export/'
  )
  flag_sets.define_source(values)
  flag_sets.define_image_size(values)
  flag_sets.define_formats(values)
  flag_sets.define(
    values,
    flag_sets.DATA,
    'train_split',
    'train',
    'TFDS split of the calibration images for int8',
  )
  flag_sets.define(
    values,
    flag_sets.DATA,
    'test_split',
    'test',
    'TFDS split to measure accuracy on',
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  with tempfile.TemporaryDirectory() as scratch:
    return _export(values, scratch)


def _export(values: flags.FlagValues, scratch: str) -> outcome.Outcome:
  """Exports; the student of an interrupted run is put into `scratch`."""
  model = settings.required(values, 'model')
  workdir = settings.required(values, 'workdir')
  run_dir.check_writable(workdir)
  settings.required(values, 'dataset')
  options = settings.read_export(values)
  early = None
  run_of_model = unfinished.find_run(model) if os.path.isdir(model) else None
  if run_of_model is not None:
    model = run_of_model.model
    if not os.path.exists(model):
      early = _restore(values, run_of_model, scratch)
  exported_model = early.model if early else model
  source = settings.read_source(
    values,
    predictors.open_predictor(exported_model).image_shape,
    model=model,
  )
  dataset = datasets.Dataset(
    source, train_split=values.train_split, test_split=values.test_split
  )
  folder = os.path.join(
    workdir, f'export-step-{early.step}' if early else 'export'
  )
  with reporter.Progress().part(folder, 'export') as part:
    exported = student.export(
      exported_model, dataset, folder, options=options, status=part.status
    )
  if early:
    known = early.as_json(os.path.join(folder, run_dir.KERAS))
    run_dir.RunDir(folder).write('unfinished.json', known)
  else:
    model_card.write(run_dir.RunDir(workdir))
  with json_files.explained(folder):
    text = _describe(exported, folder, options.max_drop)
  if early:
    return outcome.Outcome(
      exported | {'unfinished': known}, f'{text}\n{early.describe()}'
    )
  return outcome.Outcome(exported, text)


def _describe(exported, folder, max_drop):
  """Returns the table of an export; raises if a file loses too much."""
  lines = [
    [
      name,
      f'{exported[name]["bytes"]:,}',
      f'{100 * exported[name]["accuracy"]:.2f}',
      f'{exported[name]["latency_ms"]["p50"]:.3f}'
      if 'latency_ms' in exported[name]
      else '-',
    ]
    for name in exported
  ]
  table = tables.to_markdown(['file', 'bytes', 'accuracy %', 'ms'], lines)
  measuring.check_drop(exported, max_drop, folder)
  fastest = run_dir.RunDir(folder).read('latency.json')['fastest']
  return f'{table}\n\nFastest here:  {fastest}\nExport:        {folder}'


def _restore(values, run, folder):
  """Returns the student of an interrupted run, on the images of the flags."""
  recipe = settings.read_config(os.path.join(run.path, 'recipe.json'))
  recipe = recipe_flags.override(recipe, {'dataset': values.dataset})
  return unfinished.restore(
    run,
    recipe,
    datasets.Dataset.from_recipe(recipe.data, values.data_dir),
    folder,
  )
