"""What the programs share: flags from recipes, errors and results in a line.

Importing it imports TensorFlow without the notes that its C++ side prints then,
which no setting of TensorFlow's silences; so it comes before anything else that
imports TensorFlow. With TF_CPP_MIN_LOG_LEVEL set, everything is shown.
"""

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import app, flags, logging


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Holds back what is written to standard error; shows it on failure."""
  if 'TF_CPP_MIN_LOG_LEVEL' in os.environ:
    yield
    return
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(kept, held.read())
      raise
    finally:
      os.dup2(kept, 2)
      os.close(kept)


with _quiet():
  import ft_tf  # noqa: F401  Before TensorFlow: it sets how that computes.
  import keras
  import tensorflow as tf
  import tensorflow_datasets as tfds

  from ft_tf import (
    catalogue,
    errors,
    paths,
    recipes,
    run_dir,
    specs,
    teachers,
  )
  from ft_tf.data import datasets, folder, sources
  from ft_tf.export import budget, student
  from ft_tf.models import checks, model_files
  from ft_tf.progress import reporter
  from ft_tf.report import tables
  from ft_tf.signals import cache
  from ft_tf.training import loop, strategy

  tf.config.list_physical_devices()

_HELP = ('--help', '-help', '-h', '--helpfull', '--helpshort')


def define_recipe(groups: Iterable[str]) -> None:
  """Defines `--recipe` and a flag for every number of some groups.

  Args:
    groups: Names of `recipes.Recipe` fields; the recipe's own numbers always
      come along.
  """
  flags.DEFINE_string(
    'recipe',
    None,
    f'recipe to run, one of {", ".join(sorted(catalogue.RECIPES))} (default: '
    f'{catalogue.DEFAULT})',
  )
  named = {name: catalogue.get(name) for name in sorted(catalogue.RECIPES)}
  define_loading()
  for leaf in recipes.leaves():
    if leaf.group and leaf.group not in groups:
      continue
    defaults = ', '.join(
      f'{name} {_text(leaf.value(recipe))}' for name, recipe in named.items()
    )
    values = {_text(leaf.value(recipe)) for recipe in named.values()}
    if len(values) == 1:
      (defaults,) = values
    text = f'{leaf.field.metadata["help"]} (default: {defaults})'
    define = {
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
      bool: flags.DEFINE_bool,
      str: flags.DEFINE_string,
      float | str: flags.DEFINE_string,
    }.get(leaf.field.type, flags.DEFINE_list)
    define(leaf.flag, None, text)


def define_loading() -> None:
  """Defines the flag of a program that loads models from files."""
  flags.DEFINE_bool(
    'allow_unsafe_model',
    False,
    'run the code of Lambda layers in .keras files; the code has your access '
    'rights, so use it only for files that you trust (default: False)',
  )


def define_data_dir() -> None:
  flags.DEFINE_string(
    'data_dir',
    None,
    'folder of prepared TFDS data sets (default: the default folder of TFDS)',
  )


def define_source(*, required: bool = True) -> None:
  """Defines the flags of a data set without a recipe."""
  by_flag = {leaf.flag: leaf.field for leaf in recipes.leaves()}
  flags.DEFINE_string(
    'dataset',
    None,
    by_flag['dataset'].metadata['help']
    + (' (required)' if required else ' (default: none)'),
  )
  define_data_dir()
  resizing = by_flag['resizing']
  flags.DEFINE_enum(
    'resizing',
    None,
    resizing.metadata['choices'],
    f"{resizing.metadata['help']} (default: that of the model's run or export "
    f'folder, otherwise {catalogue.get(catalogue.DEFAULT).data.resizing})',
  )
  max_bad_files = by_flag['max_bad_files']
  flags.DEFINE_integer(
    'max_bad_files',
    max_bad_files.default,
    f'{max_bad_files.metadata["help"]} (default: {max_bad_files.default})',
  )


def define_image_size() -> None:
  flags.DEFINE_integer(
    'image_size',
    0,
    'height and width in pixels that images are resized to; 0: those of the '
    "model's run or export folder, otherwise the model's input size (default: "
    '0)',
    lower_bound=0,
  )


def define_students() -> None:
  """Defines the flags of how many students are trained."""
  flags.DEFINE_integer(
    'seeds',
    1,
    'number of seeds to train, starting at --seed (default: 1)',
  )
  flags.DEFINE_bool(
    'baseline',
    False,
    'also train the same students without a teacher, for as many steps '
    '(default: False)',
  )


def seeds() -> int:
  """Returns the number of students of the flags."""
  if flags.FLAGS.seeds < 1:
    raise errors.UsageError(f'--seeds={flags.FLAGS.seeds}: give 1 or more')
  return flags.FLAGS.seeds


def source(
  image_shape: tuple[int | None, int | None, int | None], *, model: str = ''
) -> sources.Source:
  """Returns the data set of the flags, with images as a model was made for.

  Args:
    image_shape: `(H, W, C)` that the model takes; None where it takes any.
    model: Its file or folder, beside which may stand how images were made.
  """
  recorded = student.recorded_preprocessing(model) if model else {}
  height, width, channels = image_shape
  size = (
    flags.FLAGS.image_size
    or recorded.get('image_size')
    or (height if height == width else None)
    or 0
  )
  # What compress takes where nothing is said; without a size nothing is cut.
  default = catalogue.get(catalogue.DEFAULT).data.resizing
  unsaid = recorded.get('resizing', default) if size else 'stretch'
  return sources.Source(
    required('dataset'),
    data_dir=flags.FLAGS.data_dir,
    image_size=size,
    resizing=flags.FLAGS.resizing or unsaid,
    max_bad_files=flags.FLAGS.max_bad_files,
    channels=channels if channels in (1, 3) else 0,
    trains=False,
  )


def define_workdir(help_text: str) -> None:
  flags.DEFINE_string('workdir', None, f'{help_text} (required)')


def define_devices() -> None:
  """Defines the flags of devices and intervals, which change no outcome."""
  defaults = loop.Options()
  flags.DEFINE_integer(
    'num_replicas',
    0,
    'number of devices to train on; 0: all GPUs, or one CPU if there is none '
    '(default: 0)',
  )
  for name, text in {
    'log_steps': 'number of steps between rows of metrics',
    'checkpoint_steps': 'number of steps between checkpoints',
  }.items():
    value = getattr(defaults, name)
    flags.DEFINE_integer(name, value, f'{text} (default: {value})')
  flags.DEFINE_enum(
    'progress',
    defaults.progress,
    reporter.MODES,
    'progress on standard error: bar, lines (with the time, for logs), off, or '
    'auto, which is a bar on a terminal and lines otherwise (default: '
    f'{defaults.progress})',
  )
  flags.DEFINE_string(
    'jit',
    defaults.jit,
    'compile the training steps with XLA: on, off, or auto, which is on for '
    f'GPUs (default: {defaults.jit})',
  )


def define_signals() -> None:
  """Defines the flags of the cache of teacher outputs."""
  flags.DEFINE_string(
    'signal_cache',
    'off',
    'cache of the teacher outputs for each augmented copy, computed once for '
    'all epochs, seeds and students: off, memory, or a folder (default: off)',
  )
  flags.DEFINE_float(
    'signal_cache_gib',
    8.0,
    'cache size limit in GiB; --views reduces the size needed (default: 8)',
  )


def define_check() -> None:
  """Defines the flags of the checks before training."""
  flags.DEFINE_float(
    'expect_teacher_accuracy',
    None,
    'expected teacher test accuracy (0-1); abort if the measured accuracy is '
    'lower (default: none)',
  )
  flags.DEFINE_integer(
    'max_bytes',
    None,
    'maximum size of the int8 file in bytes; picks the largest student of '
    "--student's family that fits (default: none)",
  )
  flags.DEFINE_float(
    'max_latency_ms',
    None,
    'maximum median int8 latency in ms (1 image, 1 thread, this machine); '
    'picks the largest student that fits (default: none)',
  )


def limits() -> budget.Limits | None:
  """Returns the limits of the flags; None if there are none."""
  given = {
    field.name: flags.FLAGS[field.name].value
    for field in dataclasses.fields(budget.Limits)
  }
  if all(value is None for value in given.values()):
    return None
  return budget.Limits(**given)


def candidates(choice: dict[str, Any]) -> str:
  """Returns the table of the networks that limits chose from."""
  lines = [
    [
      each['name'] + ' (chosen)' * (each['name'] == choice['student']),
      f'{each["parameters"]:,}',
      f'{each["bytes"]:,}',
      f'{each["latency_ms"]:.3f}',
    ]
    for each in choice['candidates']
  ]
  return tables.to_markdown(
    ['candidate', 'parameters', 'int8 bytes', 'int8 ms'], lines
  )


def signals() -> cache.Store:
  """Returns the store of the flags."""
  return cache.Store(
    flags.FLAGS.signal_cache, budget_gib=flags.FLAGS.signal_cache_gib
  )


def recipe() -> recipes.Recipe:
  """Returns the recipe of the flags, its values checked."""
  base = catalogue.get(flags.FLAGS['recipe'].value or catalogue.DEFAULT)
  given = {}
  for leaf in recipes.leaves():
    if leaf.flag in flags.FLAGS and flags.FLAGS[leaf.flag].present:
      given[leaf.flag] = _value(leaf, flags.FLAGS[leaf.flag].value)
  which = recipes.override(base, given)
  for name in ('teacher', 'student'):
    model = getattr(which, name).model
    model_files.check_name(model, f'--{name}={model}')
  return which


def _as_teacher_takes(
  which: recipes.Recipe, original: keras.Model | None
) -> recipes.Recipe:
  """Returns the recipe with images as the given teacher takes them.

  That is where the recipe leaves it open.

  Args:
    which: The recipe.
    original: The given teacher's model; None: there is none.
  """
  if original is None:
    return which
  data, as_taken = which.data, {}
  height, width, channels = original.inputs[0].shape[1:]
  if data.resizing == 'crop' and not data.image_size and height == width:
    as_taken['image_size'] = height or 0
  converts = data.dataset.startswith(folder.PREFIX) and not data.channels
  if converts and channels in (1, 3):
    as_taken['channels'] = channels
  return recipes.override(which, as_taken)


def sweep() -> dict[str, list[Any]]:
  """Returns the values of `--sweep` by the flags of their numbers."""
  found = {}
  for text in flags.FLAGS.sweep:
    name, _, values = text.partition('=')
    leaves = [x for x in recipes.leaves() if name in (x.path, x.flag)]
    if not leaves or not values:
      raise errors.UsageError(
        f'--sweep={text}: give a number of the recipe and its values, such as '
        'paraphraser.rate=0.5,1,2'
      )
    (leaf,) = leaves
    found[leaf.flag] = [_parsed(leaf, value) for value in values.split(',')]
  return found


def _parsed(leaf: recipes.Leaf, text: str) -> Any:
  """Returns a value of a sweep, by the type of its number."""
  kinds = {
    int: int,
    float: float,
    str: str,
    bool: {'true': True, 'false': False}.__getitem__,
    float | str: _number,
  }
  try:
    return kinds[leaf.field.type](text)
  except (KeyError, ValueError) as error:
    raise errors.UsageError(
      f'--sweep={leaf.path}={text}: {leaf.field.metadata["help"]}; give values '
      'as of its flag, and no lists'
    ) from error


@dataclasses.dataclass(frozen=True)
class Setting:
  """What the flags ask for.

  Attributes:
    recipe: What to run.
    dataset: The images.
    given: The trained teacher that the recipe gives; None: it has a network to
      train, or the program takes its teacher from a flag of its own.
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


def setting() -> Setting:
  """Returns what the flags ask for; a given teacher is loaded here, once."""
  which = recipe()
  run = run_dir.RunDir(required('workdir'))
  run_dir.check_writable(run.path)
  options = loop.Options(
    **{
      field.name: flags.FLAGS[field.name].value
      for field in dataclasses.fields(loop.Options)
    }
  )
  # Before anything else uses TensorFlow: it may split the CPU.
  devices = strategy.make(flags.FLAGS.num_replicas)
  original = None
  if model_files.is_file(which.teacher.model):
    original = model_files.load(which.teacher.model)
    checks.check_classifier(original, which.teacher.model)
  which = _as_teacher_takes(which, original)
  data_dir = flags.FLAGS.data_dir
  dataset = datasets.Dataset.from_recipe(which.data, data_dir)
  if original is not None and not which.data.channels:
    takes = original.inputs[0].shape[-1]
    if takes in (1, 3) and takes != dataset.image_shape[-1]:
      which = recipes.override(which, {'channels': takes})
      dataset = datasets.Dataset.from_recipe(which.data, data_dir)
  if not (flags.FLAGS['mean'].present or flags.FLAGS['std'].present):
    which = specs.settle_statistics(which, dataset)
  return Setting(
    recipe=which,
    dataset=dataset,
    given=teachers.resolve(which, dataset, original),
    run=run,
    strategy=devices,
    options=options,
  )


def required(name: str) -> Any:
  """Returns the value of a flag that must be given."""
  value = flags.FLAGS[name].value
  if value is None or value == '':
    raise errors.UsageError(f'give --{name}: {flags.FLAGS[name].help}')
  return value


def run(main: Callable[[], dict[str, Any]]) -> None:
  """Runs a program: prints its result as one line of JSON, last.

  A `UsageError` is one line on standard error and exit code 2, a
  `TrainingError` one line and exit code 1.
  """

  def parse(argv):
    if any(argument in _HELP for argument in argv[1:]):
      print(_help())
      sys.exit(0)
    try:
      rest = flags.FLAGS(argv)
    except flags.Error as error:
      _leave(error, 2)
    if len(rest) > 1:
      _leave(f'{rest[1]!r} is not a flag: write --name=value', 2)
    try:
      _expand_home()
    except errors.UsageError as error:
      _leave(error, 2)
    return rest

  def wrapped(argv):
    del argv
    if not flags.FLAGS['verbosity'].present:
      # TensorFlow's and TFDS's notes; what ends a program is an exception.
      logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    # Not every program loads models from files.
    if flags.FLAGS.flag_values_dict().get('allow_unsafe_model'):
      model_files.allow_unsafe()
    try:
      result = main()
    except errors.UsageError as error:
      _leave(error, 2)
    except errors.TrainingError as error:
      _leave(error, 1)
    except KeyboardInterrupt:
      _leave('stopped; the same command continues', 1)
    print(run_dir.to_json(result), flush=True)

  app.run(wrapped, flags_parser=parse)


def _expand_home() -> None:
  """Replaces the ~ at the start of a flag's path, whatever the flag."""
  for name in flags.FLAGS:
    flag = flags.FLAGS[name]
    if isinstance(flag.value, str):
      flag.value = paths.expand(flag.value)
    elif isinstance(flag.value, list):
      flag.value = [paths.expand(str(each)) for each in flag.value]


def _leave(reason: Any, code: int) -> None:
  line = ' '.join(str(reason).split())
  print(f'{_name()}: {line}', file=sys.stderr)
  sys.exit(code)


def _name() -> str:
  return os.path.basename(sys.argv[0])


def _help() -> str:
  """Returns the program's manual and a line for every flag of its own."""
  here = {__name__, sys.argv[0]}
  own = [
    flag
    for module, found in flags.FLAGS.flags_by_module_dict().items()
    if module in here
    for flag in found
  ]
  width = max(len(flag.name) for flag in own) + 2
  lines = [f'{"--" + flag.name:<{width}}  {_line(flag.help)}' for flag in own]
  manual = (sys.modules['__main__'].__doc__ or '').strip()
  return manual + '\n\nFlags:\n' + '\n'.join(lines)


def _line(text: str) -> str:
  """Returns a flag's help without absl's note that it may be repeated."""
  return text.splitlines()[0].removesuffix(';')


def _text(value: Any) -> str:
  if isinstance(value, tuple):
    value = ','.join(map(str, value))
  return str(value) or 'none'


def _number(text: str) -> float | str:
  """Returns the number that a text is, or the text."""
  try:
    return float(text)
  except ValueError:
    return text


def _value(leaf: recipes.Leaf, value: Any) -> Any:
  """Returns a flag's value as the recipe has it: lists become tuples."""
  if leaf.field.type == float | str:
    return _number(value)
  if not isinstance(value, list):
    return value
  (kind, _) = leaf.field.type.__args__
  try:
    return tuple(kind(part) for part in value)
  except ValueError as error:
    raise errors.UsageError(
      f'--{leaf.flag}={",".join(value)}: {leaf.field.metadata["help"]}; give '
      'numbers with commas between them'
    ) from error
