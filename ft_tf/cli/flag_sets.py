"""The flags that commands share, in the groups of the help."""

from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from ft_tf import catalogue, definitions, recipe_flags, recipes, sizes
from ft_tf.export import formats
from ft_tf.progress import reporter
from ft_tf.training import loop, strategy

# The groups of the help, in its order.
REQUIRED = 'required'
DATA = 'data'
MODELS = 'models'
FACTOR_TRANSFER = 'factor transfer'
OTHER_METHODS = 'other methods'
TRAINING = 'training'
QUANTISATION = 'quantisation'
DEVICES = 'devices'
EXPORT = 'export'
CHECKS = 'checks'
OTHER = 'other'
GROUPS = (
  REQUIRED,
  DATA,
  MODELS,
  FACTOR_TRANSFER,
  OTHER_METHODS,
  TRAINING,
  QUANTISATION,
  DEVICES,
  EXPORT,
  CHECKS,
  OTHER,
)
_MOST_REPLICAS = 256
ALL_STAGES = ('data', 'teacher', 'paraphraser', 'student')

_MODEL_FIELDS = {
  'model',
  'student_image_size',
  'student_weights',
  'teacher_outputs',
  'teacher_weights',
  'preprocessing',
}
_ROOT_GROUPS = {
  'new_head': MODELS,
  'seed': TRAINING,
  'class_weights': TRAINING,
  'sync_batch_norm': DEVICES,
  'precision': DEVICES,
}


def define(
  values: flags.FlagValues,
  group: str,
  name: str,
  default: Any,
  help_text: str,
  *,
  kind: Callable[..., Any] | None = None,
  choices: Iterable[str] = (),
  **details: Any,
) -> None:
  """Defines one flag.

  Args:
    values: The command's flags.
    group: One of `GROUPS`.
    name: The name, without dashes.
    default: The default; its type decides how the flag is read.
    help_text: What it is, without the default, which the help adds.
    kind: A `DEFINE_` function of absl; None: by the type of the default, a text
      if that is None.
    choices: The values that the flag takes; empty: any.
    **details: More arguments of that function, such as `lower_bound`.
  """
  by_type: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    list: flags.DEFINE_list,
  }
  kind = kind or by_type.get(type(default), flags.DEFINE_string)
  arguments = [name, default, help_text]
  if choices:
    kind = flags.DEFINE_enum
    arguments.insert(2, list(choices))
  # absl's module of a flag is its group here.
  kind(
    *arguments,
    flag_values=values,
    module_name=group,
    **details,
  )


def define_recipe(values: flags.FlagValues, stages: Iterable[str]) -> None:
  """Defines `--recipe`, `--config` and a flag for every number of some stages.

  Args:
    values: The command's flags.
    stages: Names of `recipes.Recipe` fields; the recipe's own numbers always
      come along.
  """
  define(
    values,
    REQUIRED if 'data' in stages else MODELS,
    'recipe',
    None,
    f'recipe whose numbers apply where no flag is given; --list_recipes prints '
    f'all (default: {catalogue.DEFAULT}, which needs --teacher and --dataset)',
  )
  define(
    values,
    OTHER,
    'config',
    None,
    'recipe.json of an earlier run, in place of --recipe: repeats that run in '
    'another --workdir',
  )
  define(
    values, OTHER, 'list_recipes', False, 'print the recipes as a table and end'
  )
  define_loading(values)
  stages = tuple(stages)
  for leaf in recipe_flags.leaves():
    if leaf.group and leaf.group not in stages:
      continue
    kinds: dict[Any, Callable[..., Any]] = {
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
      bool: flags.DEFINE_bool,
      str: flags.DEFINE_string,
      float | str: flags.DEFINE_string,
      sizes.Size: flags.DEFINE_string,
    }
    define(
      values,
      group_of(leaf),
      leaf.flag,
      None,
      leaf.field.metadata['help'],
      kind=kinds.get(leaf.field.type, flags.DEFINE_list),
    )


def group_of(leaf: recipe_flags.Leaf) -> str:
  """Returns the group of the help that a number of a recipe belongs to."""
  name = leaf.field.name
  if leaf.group == 'data':
    return DATA
  if leaf.group == 'qat':
    return QUANTISATION
  if leaf.group in ('teacher', 'student') and name in _MODEL_FIELDS:
    return MODELS
  optimization = {f.name for f in recipes.optimization_fields()}
  if name in optimization | {'label_smoothing'}:
    return TRAINING
  if not leaf.group:
    return _ROOT_GROUPS.get(name, FACTOR_TRANSFER)
  if leaf.group == 'paraphraser' or name == 'method':
    return FACTOR_TRANSFER
  if definitions.registered()['ft'].reads(name):
    return FACTOR_TRANSFER
  return OTHER_METHODS


def define_loading(values: flags.FlagValues) -> None:
  """Defines the flag of a command that loads models from files."""
  define(
    values,
    MODELS,
    'allow_unsafe_model',
    False,
    'run the code of Lambda layers in .keras files, and any operation of a '
    'SavedModel, with your access rights: only for files that you trust',
  )


def define_data_dir(values: flags.FlagValues) -> None:
  define(
    values,
    DATA,
    'data_dir',
    None,
    'folder of prepared TFDS data sets (default: the default folder of TFDS)',
  )


def define_source(values: flags.FlagValues, *, required: bool = True) -> None:
  """Defines the flags of a data set without a recipe."""
  by_flag = {leaf.flag: leaf.field for leaf in recipe_flags.leaves()}
  define(
    values,
    REQUIRED if required else DATA,
    'dataset',
    None,
    by_flag['dataset'].metadata['help'],
  )
  define_data_dir(values)
  resizing = by_flag['resizing']
  define(
    values,
    DATA,
    'resizing',
    None,
    f"{resizing.metadata['help']} (default: that of the model's run or export "
    f'folder, otherwise {catalogue.get(catalogue.DEFAULT).data.resizing})',
    choices=resizing.metadata['choices'],
  )
  max_bad_files = by_flag['max_bad_files']
  define(
    values,
    DATA,
    'max_bad_files',
    max_bad_files.default,
    max_bad_files.metadata['help'],
    lower_bound=max_bad_files.metadata['least'],
    upper_bound=max_bad_files.metadata['most'],
  )


def define_image_size(values: flags.FlagValues) -> None:
  define(
    values,
    DATA,
    'image_size',
    '0',
    'size in pixels that images are resized to: 96 for squares, 96x160 for a '
    'height of 96 and a width of 160; 0: that of the '
    "model's run or export folder, otherwise the model's input size",
  )


def define_model(values: flags.FlagValues, help_text: str) -> None:
  """Defines `--model`, the file that a command reads."""
  define(values, REQUIRED, 'model', None, help_text)
  define_loading(values)


def define_workdir(values: flags.FlagValues, help_text: str) -> None:
  define(values, REQUIRED, 'workdir', None, help_text)


def define_students(values: flags.FlagValues, *, seeds: int = 1) -> None:
  """Defines the flags of how many students are trained."""
  define(
    values,
    TRAINING,
    'seeds',
    seeds,
    'number of seeds to train, starting at --seed',
    lower_bound=1,
    upper_bound=recipes.MOST_SEEDS,
  )
  define(
    values,
    TRAINING,
    'baseline',
    False,
    'also train the same students without a teacher, for as many steps',
  )
  define(
    values,
    TRAINING,
    'linear_head',
    False,
    'also train the last layer of the pretrained student alone, without a '
    'teacher, on the features of its frozen weights; needs --student_weights, '
    'or a .keras file as --student',
  )


def define_devices(values: flags.FlagValues) -> None:
  """Defines the flags of devices and intervals, which change no outcome."""
  defaults = loop.Options()
  define(
    values,
    DEVICES,
    'num_replicas',
    0,
    'devices; 0: all GPUs, or else one CPU',
    lower_bound=0,
    upper_bound=_MOST_REPLICAS,
  )
  define(
    values,
    DEVICES,
    'strategy',
    'auto',
    'tpu, or auto: GPUs or CPU, also of several machines',
    choices=strategy.KINDS,
  )
  for name, text in {
    'log_steps': 'number of steps between rows of metrics',
    'checkpoint_steps': 'number of steps between checkpoints',
  }.items():
    define(values, TRAINING, name, getattr(defaults, name), text, lower_bound=1)
  define(
    values,
    TRAINING,
    'checkpoint_minutes',
    defaults.checkpoint_minutes,
    'minutes between checkpoints, at most',
  )
  define(
    values,
    OTHER,
    'progress',
    defaults.progress,
    'progress on standard error: bar, lines (with the time, for logs), off, or '
    'auto, which is a bar on a terminal and lines elsewhere',
    choices=reporter.MODES,
  )
  define(
    values,
    DEVICES,
    'jit',
    defaults.jit,
    'compile the training steps with XLA: on, off, or auto, which is on for '
    'GPUs',
    choices=['auto', 'on', 'off'],
  )
  define(
    values,
    DEVICES,
    'deterministic',
    defaults.deterministic,
    'compute by deterministic operations only',
  )


def define_signals(values: flags.FlagValues) -> None:
  """Defines the flags of the cache of teacher outputs."""
  define(
    values,
    TRAINING,
    'signal_cache',
    'off',
    'cache of the teacher outputs for each augmented copy, computed once for '
    'all epochs, seeds and students: off, memory, or a folder',
  )
  define(
    values,
    TRAINING,
    'signal_cache_gib',
    8.0,
    'cache size limit in GiB; --views reduces the size needed',
  )


def define_formats(values: flags.FlagValues) -> None:
  """Defines the flags of what an export makes, and what it may lose."""
  define(
    values,
    EXPORT,
    'formats',
    [],
    'further files to export, besides fp32, fp16 and int8: '
    + '; '.join(
      f'{each.name} ({each.about})'
      for each in formats.FORMATS.values()
      if each.name not in formats.DEFAULT
    ),
  )
  define(
    values,
    EXPORT,
    'max_drop',
    1.0,
    'how many percentage points less accurate than the Keras student a file '
    'may be on the test split; more is an error, exit code 1',
  )


def define_checks(values: flags.FlagValues) -> None:
  """Defines the flags of the checks before training."""
  define(
    values,
    CHECKS,
    'expect_teacher_accuracy',
    None,
    'expected teacher test accuracy (0-1); abort if the measured accuracy is '
    'lower',
    kind=flags.DEFINE_float,
    lower_bound=0.0,
    upper_bound=1.0,
  )
  for name, text in (
    ('max_bytes', 'maximum size of the file in bytes'),
    (
      'max_latency_ms',
      'maximum median latency in ms (1 image, 1 thread, this machine)',
    ),
    ('max_ram', 'maximum tensor arena in bytes (1 image)'),
  ):
    define(
      values,
      EXPORT,
      name,
      None,
      f'{text}, of the int8 file or as FORMAT:NUMBER of another; picks the '
      'largest student that fits',
      kind=flags.DEFINE_string,
    )
