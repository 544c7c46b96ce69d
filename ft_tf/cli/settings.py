"""Flags to what the library takes: a recipe, images, a teacher, devices."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from absl import flags

from ft_tf import (
  catalogue,
  errors,
  json_files,
  paths,
  recipe_fit,
  recipe_flags,
  recipes,
  run_dir,
  sizes,
  specs,
  teachers,
)
from ft_tf.data import datasets, folder, sources
from ft_tf.export import device_limits, student
from ft_tf.export import folder as export_folder
from ft_tf.models import checks, model_files
from ft_tf.report import tables
from ft_tf.signals import cache
from ft_tf.training import cluster, loop, strategy


@dataclasses.dataclass(frozen=True)
class Setting:
  """What the flags of a training command ask for.

  Attributes:
    recipe: What to run.
    dataset: The images.
    given: The trained teacher that the recipe gives; None: it has a network to
      train, or the command takes its teacher from a flag of its own.
    run: Where to work.
    strategy: The devices.
    options: Intervals.
  """

  recipe: recipes.Recipe
  dataset: datasets.Dataset
  given: teachers.Teacher | None
  run: run_dir.RunDir
  strategy: tf.distribute.Strategy
  options: loop.Options

  @property
  def work(self) -> dict[str, Any]:
    """The arguments of a stage on where and how to work."""
    names = ('run', 'strategy', 'options')
    return {name: getattr(self, name) for name in names}


def read_setting(values: flags.FlagValues) -> Setting:
  """Returns what the flags ask for; a given teacher is loaded here, once."""
  recipe = read_recipe(values)
  workdir = required(values, 'workdir')
  options = loop.Options(
    **{
      field.name: values[field.name].value
      for field in dataclasses.fields(loop.Options)
    }
  )
  # Before anything else uses TensorFlow: it may split the CPU.
  devices = strategy.make_or_join(values.num_replicas, values.strategy)
  run = run_dir.RunDir(cluster.work_folder(workdir))
  run_dir.check_writable(run.path)
  if not cluster.is_chief():
    options = dataclasses.replace(options, progress='off')
  original = None
  if model_files.is_teacher_file(recipe.teacher.model):
    original = model_files.load(recipe.teacher.model)
    checks.check_classifier(original, recipe.teacher.model)
  recipe = _as_teacher_takes(recipe, original)
  dataset = datasets.Dataset.from_recipe(recipe.data, values.data_dir)
  if original is not None and not recipe.data.channels:
    takes = original.inputs[0].shape[-1]
    if takes in (1, 3) and takes != dataset.image_shape[-1]:
      recipe = recipe_flags.override(recipe, {'channels': takes})
      dataset = datasets.Dataset.from_recipe(recipe.data, values.data_dir)
  if not (values['mean'].present or values['std'].present):
    recipe = specs.settle_statistics(recipe, dataset)
  return Setting(
    recipe=recipe,
    dataset=dataset,
    given=teachers.resolve(recipe, dataset, original),
    run=run,
    strategy=devices,
    options=options,
  )


def read_recipe(values: flags.FlagValues) -> recipes.Recipe:
  """Returns the recipe of the flags, its values checked."""
  if values.config and values.recipe:
    raise errors.UsageError(
      f'--config={values.config} has a recipe: leave out --recipe'
    )
  recipe = (
    read_config(values.config)
    if values.config
    else catalogue.get(values.recipe or catalogue.DEFAULT)
  )
  recipe = recipe_flags.override(
    recipe,
    {
      leaf.flag: _leaf_value(leaf, values[leaf.flag].value)
      for leaf in recipe_flags.leaves()
      if leaf.flag in values and values[leaf.flag].present
    },
  )
  for name in ('teacher', 'student'):
    model = getattr(recipe, name).model
    if name == 'student' or not model_files.is_teacher_file(model):
      model_files.check_name(model, f'--{name}={model}')
  return recipe


def read_config(path: str) -> recipes.Recipe:
  """Returns the recipe that a run wrote as its `recipe.json`.

  That of one stage has the numbers of that stage; the others' are those of the
  default recipe, and the command does not read them.

  Raises:
    UsageError: it is no such file.
  """
  paths.check_regular(path, '--config=')
  try:
    with open(path, encoding='utf-8') as file:
      written = json.load(file)
  except (OSError, ValueError, RecursionError) as error:
    raise errors.UsageError(
      f'--config={path}: give the recipe.json of a run ({error})'
    ) from error
  if not json_files.is_recipe(written) or 'data' not in written:
    raise errors.UsageError(
      f'--config={path}: give the recipe.json of a run; this file has no recipe'
    )
  given = {}
  for leaf in recipe_flags.leaves():
    group = written.get(leaf.group, {}) if leaf.group else written
    if leaf.field.name in group:
      value = group[leaf.field.name]
      # JSON has no tuples.
      given[leaf.flag] = tuple(value) if isinstance(value, list) else value
  return recipe_flags.override(catalogue.get(catalogue.DEFAULT), given)


def _as_teacher_takes(
  recipe: recipes.Recipe, original: keras.Model | None
) -> recipes.Recipe:
  """Returns the recipe with images as the given teacher takes them.

  That is where the recipe leaves it open.

  Args:
    recipe: The recipe.
    original: The given teacher's model; None: there is none.
  """
  if original is None:
    return recipe
  data, as_taken = recipe.data, {}
  height, width, channels = original.inputs[0].shape[1:]
  if data.resizing == 'crop' and not data.image_size and height and width:
    as_taken['image_size'] = sizes.of(height, width)
  converts = data.dataset.startswith(folder.PREFIX) and not data.channels
  if converts and channels in (1, 3):
    as_taken['channels'] = channels
  return recipe_flags.override(recipe, as_taken)


def read_source(
  values: flags.FlagValues,
  image_shape: tuple[int | None, int | None, int | None],
  *,
  model: str = '',
) -> sources.Source:
  """Returns the data set of the flags, with images as a model was made for.

  Args:
    values: The command's flags.
    image_shape: `(H, W, C)` that the model takes; None where it takes any.
    model: Its file or folder, beside which may stand how images were made.
  """
  recorded = export_folder.recorded_preprocessing(model) if model else {}
  height, width, channels = image_shape
  size = (
    read_image_size(values)
    or recorded.get('image_size')
    or (sizes.of(height, width) if height and width else 0)
  )
  # What compress takes without a flag; without a size nothing is cropped.
  default = catalogue.get(catalogue.DEFAULT).data.resizing
  resizing = recorded.get('resizing', default) if size else 'stretch'
  return sources.Source(
    required(values, 'dataset'),
    data_dir=values.data_dir,
    image_size=size,
    resizing=values.resizing or resizing,
    max_bad_files=values.max_bad_files,
    channels=channels if channels in (1, 3) else 0,
  )


def read_image_size(values: flags.FlagValues) -> sizes.Size:
  """Returns the size of `--image_size`, of a command without a recipe."""
  flag = values['image_size']
  try:
    return sizes.read(flag.value)
  except ValueError as error:
    raise errors.UsageError(
      f'--image_size={flag.value}: {flag.help}; give {sizes.FORMS}'
    ) from error


def choose_student(
  values: flags.FlagValues, setting: Setting
) -> tuple[recipes.Recipe, dict[str, Any] | None]:
  """Returns what `recipe_fit.within` does for the limits of the flags.

  The networks that the student was chosen from are printed.
  """
  recipe, choice = recipe_fit.within(
    _read_limits(values), setting.recipe, setting.dataset, setting.run
  )
  if choice is not None:
    print(_format_candidates(choice), file=sys.stderr)
  return recipe, choice


def _read_limits(values: flags.FlagValues) -> device_limits.Limits | None:
  """Returns the limits of the flags; None if there are none."""
  given = {
    field.name: values[field.name].value
    for field in dataclasses.fields(device_limits.Limits)
  }
  if all(value is None for value in given.values()):
    return None
  return device_limits.Limits(**given)


def _format_candidates(choice: dict[str, Any]) -> str:
  """Returns the table of the networks that limits chose from."""
  lines = []
  header = ['candidate', 'parameters']
  for name in choice['candidates'][0]['files']:
    header += [f'{name} {figure}' for figure in ('bytes', 'ms', 'arena bytes')]
  for each in choice['candidates']:
    line = [
      each['name'] + ' (chosen)' * (each['name'] == choice['student']),
      f'{each["parameters"]:,}',
    ]
    for file in each['files'].values():
      arena = file.get('arena_bytes')
      line += [
        f'{file["bytes"]:,}',
        f'{file["latency_ms"]:.3f}',
        '' if arena is None else f'{arena:,}',
      ]
    lines.append(line)
  return tables.to_markdown(header, lines)


def read_signals(values: flags.FlagValues) -> cache.Store:
  """Returns the store of teacher outputs of the flags."""
  return cache.Store(values.signal_cache, budget_gib=values.signal_cache_gib)


def read_export(values: flags.FlagValues) -> student.Options:
  """Returns what an export makes by the flags."""
  return student.Options(tuple(values.formats), values.max_drop)


def read_sweep(values: flags.FlagValues) -> dict[str, list[Any]]:
  """Returns the values of `--sweep` by the flags of their numbers."""
  sweep = {}
  for text in values.sweep:
    name, _, listed = text.partition('=')
    leaves = [x for x in recipe_flags.leaves() if name in (x.path, x.flag)]
    if not leaves or not listed:
      close = errors.did_you_mean(name, [x.flag for x in recipe_flags.leaves()])
      raise errors.UsageError(
        f'--sweep={text}: give a number of the recipe and its values, such as '
        f'paraphraser.rate=0.5,1,2{close if not leaves else ""}'
      )
    (leaf,) = leaves
    sweep[leaf.flag] = [_parse(leaf, value) for value in listed.split(',')]
  return sweep


def required(values: flags.FlagValues, name: str) -> Any:
  """Returns the value of a flag that must be given."""
  value = values[name].value
  if value is None or value == '':
    raise errors.UsageError(f'give --{name}: {values[name].help}')
  return value


def _parse(leaf: recipe_flags.Leaf, text: str) -> Any:
  """Returns a value of a sweep, by the type of its number."""
  kinds: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: float,
    str: str,
    bool: {'true': True, 'false': False}.__getitem__,
    sizes.Size: sizes.read,
    float | str: _number,
  }
  try:
    return kinds[leaf.field.type](text)
  except (KeyError, ValueError) as error:
    raise errors.UsageError(
      f'--sweep={leaf.path}={text}: {leaf.field.metadata["help"]}; give values '
      'as of its flag, and no lists'
    ) from error


def _number(text: str) -> float | str:
  """Returns the number that a text is, or the text."""
  try:
    return float(text)
  except ValueError:
    return text


def _leaf_value(leaf: recipe_flags.Leaf, value: Any) -> Any:
  """Returns a flag's value as the recipe has it: lists become tuples."""
  if leaf.field.type == float | str:
    return _number(value)
  if not isinstance(value, list):
    return value
  # The type of the elements of a tuple.
  (kind, _) = typing.get_args(leaf.field.type)
  try:
    return tuple(kind(part) for part in value)
  except ValueError as error:
    raise errors.UsageError(
      f'--{leaf.flag}={",".join(value)}: {leaf.field.metadata["help"]}; give '
      'numbers with commas between them'
    ) from error
