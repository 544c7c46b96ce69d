"""What to run, as frozen data: each number once, beside its source.

Sources named below:
  public code: the authors' Jangho-Kim/Factor-Transfer-pytorch, CIFAR-10.
  paper: Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression
    via Factor Transfer", NeurIPS 2018.
"""

import dataclasses
from typing import Any

from ft_tf import errors


def _field(help_text, *, least=None, above=None, choices=None, **default):
  """Returns a dataclass field that knows its help line and its bounds."""
  return dataclasses.field(
    **default,
    metadata={
      'help': help_text,
      'least': least,
      'above': above,
      'choices': choices,
    },
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The data set and the views of its images that training sees."""

  dataset: str = _field('TFDS name of an image classification data set')
  train_split: str = _field('TFDS split to train on', default='train')
  test_split: str = _field('TFDS split of the final figures', default='test')
  image_size: int = _field(
    'resize images to this height and width in pixels; 0 keeps them',
    least=0,
    default=0,
  )
  validation_examples: int = _field(
    'training images set aside for validation', least=0, default=1000
  )
  pad: int = _field(
    'black pixels on each side before the random crop', least=0, default=4
  )
  flip: bool = _field('flip half of the images left to right', default=True)
  mean: tuple[float, ...] = _field('channel means of images in [0, 1]')
  std: tuple[float, ...] = _field(
    'channel standard deviations of images in [0, 1]', above=0
  )
  view_seed: int = _field('seed of crops and flips', least=0, default=0)
  views: int = _field(
    'different views of each training image, which epochs repeat in turn; 0: '
    'every epoch has its own',
    least=0,
    default=0,
  )
  batch_size: int = _field('images per step, all replicas', least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Optimization:
  """SGD with momentum, coupled weight decay and a multi-step rate."""

  epochs: int = _field('epochs of training', least=1)
  learning_rate: float = _field('first learning rate', above=0, default=0.1)
  momentum: float = _field('momentum of SGD', least=0, default=0.9)
  weight_decay: float = _field(
    'L2 weight added to the gradient of every variable', least=0, default=5e-4
  )
  drop_epochs: tuple[int, ...] = _field(
    'epochs after which the rate is multiplied by drop_factor',
    least=1,
    default=(),
  )
  drop_factor: float = _field('factor of a rate drop', above=0, default=0.1)
  warmup_epochs: float = _field(
    'epochs of linear warm-up of the rate', least=0, default=0.0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher(_Optimization):
  """The large network: trained here, or given as a file."""

  model: str = _field('network name to train, or a trained .keras file')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paraphraser(_Optimization):
  """The autoencoder on the teacher's last feature map (paper, section 3.1)."""

  rate: float = _field(
    'paraphrase rate k: factor channels over teacher channels',
    above=0,
    default=0.5,
  )
  reconstruction: str = _field(
    'reconstruction loss: mean absolute (l1) or mean squared (l2) error',
    choices=('l1', 'l2'),
    default='l1',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student(_Optimization):
  """The small network, and how the teacher's factors reach it."""

  model: str = _field('network name of the student')
  method: str = _field(
    'ft (factor transfer) or scratch (the student on its own)',
    choices=('ft', 'scratch'),
    default='ft',
  )
  beta: float = _field(
    'weight of the factor loss (paper, equation 5)', least=0, default=500.0
  )
  p: int = _field(
    'norm of the factor difference (paper, equation 3)',
    choices=(1, 2),
    default=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """Everything that decides the outcome of a compression."""

  seed: int = _field('seed of initial weights and order', least=0, default=0)
  sync_batch_norm: bool = _field(
    'batch norm statistics over all replicas, not each its own', default=False
  )
  precision: str = _field(
    'what networks compute in; weights, losses and statistics are float32; '
    'auto: what is fastest on this machine',
    choices=('auto', 'float32', 'mixed_bfloat16', 'mixed_float16'),
    default='auto',
  )
  data: Data
  teacher: Teacher
  paraphraser: Paraphraser
  student: Student


def cifar10_resnet56_resnet20() -> Recipe:
  """Paper, table of CIFAR-10: ResNet-56 teaches ResNet-20 (public code).

  The public code trains on all 50,000 images; 1,000 are set aside here for
  validation. `validation_examples=0` gives its setting.
  """
  long = {'epochs': 164, 'drop_epochs': (82, 123)}
  return Recipe(
    data=Data(
      dataset='cifar10',
      mean=(0.4914, 0.4822, 0.4465),
      std=(0.2023, 0.1994, 0.2010),
      batch_size=128,
    ),
    teacher=Teacher(model='resnet56', **long),
    paraphraser=Paraphraser(epochs=6),
    student=Student(model='resnet20', **long),
  )


def digits() -> Recipe:
  """Handwritten digits, enlarged to 16x16: the quickstart, in minutes on a CPU.

  Ours, not the paper's: 400 images to train on and 8 epochs for the student,
  so that on its own it stays well behind its teacher. Networks, lengths and
  beta were chosen on the 200 images set aside for validation.
  """
  return Recipe(
    data=Data(
      dataset='digits',
      image_size=16,
      validation_examples=200,
      pad=2,
      flip=False,
      mean=(0.306,),
      std=(0.319,),
      batch_size=32,
    ),
    teacher=Teacher(model='resnet20', epochs=80, drop_epochs=(40, 60)),
    paraphraser=Paraphraser(epochs=40),
    student=Student(
      model='resnet8x0.5', epochs=8, drop_epochs=(4, 6), beta=60.0
    ),
  )


RECIPES = {
  recipe.__name__: recipe for recipe in (cifar10_resnet56_resnet20, digits)
}


def get(name: str) -> Recipe:
  """Returns the recipe of that name; raises `UsageError` if there is none."""
  if name not in RECIPES:
    raise errors.UsageError(
      f'unknown recipe {name!r}: --recipe takes one of '
      + ', '.join(sorted(RECIPES))
    )
  return RECIPES[name]()


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One number of a recipe: where it stands, and its flag."""

  group: str  # '' for a field of the recipe itself
  field: dataclasses.Field
  flag: str

  @property
  def path(self) -> str:
    return f'{self.group}.{self.field.name}' if self.group else self.field.name

  def value(self, recipe: Recipe) -> Any:
    owner = getattr(recipe, self.group) if self.group else recipe
    return getattr(owner, self.field.name)


def leaves() -> list[Leaf]:
  """Returns every number of a recipe, in order, with the name of its flag.

  A field that one group alone has is a plain flag (`--beta`); one that several
  have carries the group (`--student_epochs`); `model` is the group's own name
  (`--teacher`).
  """
  found = []
  for field in dataclasses.fields(Recipe):
    if dataclasses.is_dataclass(field.type):
      found += [(field.name, f) for f in dataclasses.fields(field.type)]
    else:
      found.append(('', field))
  names = [field.name for _, field in found]

  def flag(group, name):
    if name == 'model':
      return group
    return name if names.count(name) == 1 else f'{group}_{name}'

  return [Leaf(group, field, flag(group, field.name)) for group, field in found]


def override(recipe: Recipe, values: dict[str, Any]) -> Recipe:
  """Returns the recipe with the values of some flags in place, checked.

  Args:
    recipe: The recipe to start from.
    values: Flag name to value.

  Raises:
    UsageError: there is no such flag, or a value is out of its bounds.
  """
  groups: dict[str, dict[str, Any]] = {}
  unknown = values.keys() - {leaf.flag for leaf in leaves()}
  if unknown:
    raise errors.UsageError(
      f'a recipe has no {", ".join(sorted(unknown))}: see --help'
    )
  for leaf in leaves():
    if leaf.flag in values:
      groups.setdefault(leaf.group, {})[leaf.field.name] = values[leaf.flag]
  top = groups.pop('', {})
  for group, changes in groups.items():
    top[group] = dataclasses.replace(getattr(recipe, group), **changes)
  recipe = dataclasses.replace(recipe, **top)
  check(recipe)
  return recipe


def check(recipe: Recipe) -> None:
  """Raises `UsageError` for the first value out of bounds, by its flag."""
  for leaf in leaves():
    value = leaf.value(recipe)
    for each in value if isinstance(value, tuple) else (value,):
      wanted = _wanted(leaf.field.metadata, each)
      if wanted:
        raise errors.UsageError(
          f'--{leaf.flag}={each}: {leaf.field.metadata["help"]}; give {wanted}'
        )
  if len(recipe.data.mean) != len(recipe.data.std):
    raise errors.UsageError(
      f'--mean has {len(recipe.data.mean)} channels and --std '
      f'{len(recipe.data.std)}; give one value per channel to both'
    )


def _wanted(metadata, value) -> str:
  """Returns what the value should have been, or '' if it is in bounds."""
  if metadata['choices'] is not None and value not in metadata['choices']:
    return 'one of ' + ', '.join(map(str, metadata['choices']))
  if isinstance(value, float) and not abs(value) < float('inf'):
    return 'a finite number'
  if metadata['least'] is not None and value < metadata['least']:
    return f'{metadata["least"]} or more'
  if metadata['above'] is not None and not value > metadata['above']:
    return f'a value above {metadata["above"]}'
  return ''
