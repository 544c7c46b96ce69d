"""What a recipe is: frozen numbers with bounds, flags and sources.

Sources named below:
  public code: the authors' Jangho-Kim/Factor-Transfer-pytorch, CIFAR-10.
  paper: Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression
    via Factor Transfer", NeurIPS 2018.
  RepDistiller: HobbitLong/RepDistiller, CIFAR-100, by the authors of Tian et
    al., "Contrastive Representation Distillation", ICLR 2020.
"""

import dataclasses
import numbers
from typing import Any

from ft_tf import errors, paths


def _field(
  help_text,
  *,
  least=None,
  above=None,
  most=None,
  choices=None,
  of=None,
  **default,
):
  """Returns a dataclass field that knows its help line and its bounds.

  `of` names the terms of the loss that it means something to; None: all.
  """
  return dataclasses.field(
    **default,
    metadata={
      'help': help_text,
      'least': least,
      'above': above,
      'most': most,
      'choices': choices,
      'of': of,
    },
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The data set and the views of its images that training sees."""

  dataset: str = _field(
    'TFDS name of an image classification data set; or folder:PATH, images as '
    'train/<class>/<image>, test/<class>/<image> and perhaps val/...'
  )
  train_split: str = _field('TFDS split to train on', default='train')
  test_split: str = _field('TFDS split of the final figures', default='test')
  image_size: int = _field(
    'resize images to this height and width in pixels; 0 keeps them',
    least=0,
    default=0,
  )
  resizing: str = _field(
    'how images come to image_size: stretch, once, before pad and crop; or '
    'crop, from their files at each step: a random part of 8 to 100 % of the '
    'area in training, the middle in evaluation',
    choices=('stretch', 'crop'),
    default='stretch',
  )
  max_bad_files: int = _field(
    'images of a folder that may be left out because they do not decode',
    least=0,
    default=0,
  )
  channels: int = _field(
    'channels that images are converted to; 0: as many as the given teacher '
    'takes, or without one as they have, in a folder 1 if all are grey, '
    'otherwise 3',
    choices=(0, 1, 3),
    default=0,
  )
  unlabeled: str = _field(
    'folder of further images, without labels, that train the paraphraser and '
    "the factor loss; files of --dataset's folder are left out; empty: none",
    default='',
  )
  validation_examples: int = _field(
    'training images set aside for validation, unless the folder of --dataset '
    'has some of its own',
    least=0,
    default=1000,
  )
  pad: int = _field(
    'black pixels on each side before the random crop; 0 with resizing=crop',
    least=0,
    default=4,
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
  """SGD with momentum and coupled weight decay."""

  epochs: int = _field('epochs of training', least=1)
  learning_rate: float = _field('first learning rate', above=0, default=0.1)
  momentum: float = _field('momentum of SGD', least=0, default=0.9)
  weight_decay: float = _field(
    'L2 weight added to the gradient of every variable', least=0, default=5e-4
  )
  decay: str = _field(
    'how the rate falls: steps, by drop_factor after each of drop_epochs; or '
    'cosine, from the end of the warm-up to 0 at the end',
    choices=('steps', 'cosine'),
    default='steps',
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
  teacher_outputs: str = _field(
    'what a given teacher gives: logits; probabilities; or auto, which sees a '
    'softmax at its end, and takes it off',
    choices=('auto', 'logits', 'probabilities'),
    default='auto',
  )
  teacher_weights: str = _field(
    'file (.weights.h5 or .h5) of weights for a teacher of keras.applications: '
    "with a head of the data set's classes it is taken as trained, otherwise "
    'all of it is trained from there with a fresh head',
    default='',
  )
  preprocessing: str = _field(
    'what a given teacher wants done to raw images of 0..255: none (it does it '
    'itself; with teacher_weights what its family wants), 0..1 or -1..1 '
    '(scaling), or imagenet (0..1, then mean and std)',
    choices=('none', '0..1', '-1..1', 'imagenet'),
    default='none',
  )


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


# The terms of a student's loss beside cross entropy, and whether they read
# the paraphraser; 'scratch' stands for none.
_FACTORS = ('ft', 'ft_no_paraphraser', 'ft_no_translator')
_TERMS = {
  'ft': True,
  'ft_no_paraphraser': False,
  'ft_no_translator': True,
  'kd': False,
  'at': False,
  'fitnet': False,
  'dkd': False,
  'sp': False,
  'ofd': False,
}
SCRATCH = 'scratch'
# The same student by keras.distillation.Distiller: its default loss, and a real
# divergence of probabilities.
KERAS_DISTILLER = 'keras_distiller'
KERAS_DISTILLER_KL = 'keras_distiller_kl'
INCUMBENTS = (KERAS_DISTILLER, KERAS_DISTILLER_KL)
AUTO = 'auto'


def terms(method: str) -> tuple[str, ...]:
  """Returns the terms of a method: 'ft+kd' has two, 'scratch' none.

  Neither has an incumbent, whose loss is not ours.

  Raises:
    UsageError: there is no such term, or one stands twice.
  """
  if method in (SCRATCH, *INCUMBENTS):
    return ()
  found = tuple(method.split('+'))
  # Factor transfer and its ablations are one term of the loss.
  names = [name.partition('_')[0] for name in found]
  if set(found) <= _TERMS.keys() and len(set(names)) == len(names):
    return found
  raise errors.UsageError(
    f'--method={method}: give {SCRATCH}, one of {", ".join(_TERMS)}, a sum '
    f'of different ones such as ft+kd, or {" or ".join(INCUMBENTS)}'
  )


def needs_paraphraser(method: str) -> bool:
  """Tells whether a method learns from a paraphraser."""
  return any(_TERMS[name] for name in terms(method))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student(_Optimization):
  """The small network, and what it learns from the teacher."""

  model: str = _field(
    'network name of the student, or a .keras file to start from'
  )
  student_image_size: int = _field(
    'height and width of the very images that the teacher sees, as the student '
    'sees them; 0: as the teacher',
    least=0,
    default=0,
  )
  method: str = _field(
    f'what it learns from the teacher: {SCRATCH} (nothing), '
    f'{", ".join(_TERMS)}, a sum such as ft+kd, or {" or ".join(INCUMBENTS)}, '
    "which is Keras's own Distiller",
    default='ft',
  )
  beta: float | str = _field(
    'weight of the factor loss (paper, equation 5); auto: what makes its '
    "gradient beta_ratio times cross entropy's at the first step",
    least=0,
    default=500.0,
    of=_FACTORS,
  )
  # The L1 norm of a difference of unit factors grows with sqrt(N), its mean
  # falls so: with 2,048, a beta of 500 is the public code's at its 2,048
  # elements, and as strong at any other k, width or image size.
  beta_elements: int = _field(
    'elements (H*W*C) of the factor that beta is for: with N elements it is '
    'multiplied by (N/beta_elements)^(p/2); 0: beta as it stands',
    least=0,
    default=2048,
    of=_FACTORS,
  )
  # Our measurement: the public code's 500 has 1.1 to 1.8 at the first step on
  # CIFAR-10 (ResNet-56 and ResNet-20, 3 seeds) and 0.9 to 1.2 afterwards.
  beta_ratio: float = _field(
    "norm of the factor loss's gradient over cross entropy's, on the student's "
    'variables at the first step, that --beta=auto aims at',
    above=0,
    default=1.0,
    of=_FACTORS,
  )
  p: int = _field(
    'norm of the factor difference (paper, equation 3)',
    choices=(1, 2),
    default=1,
    of=_FACTORS,
  )
  normalized: str = _field(
    'what of a factor is brought to norm 1: its elements, or squared_mean, '
    'its squares averaged over the channels',
    choices=('elements', 'squared_mean'),
    default='elements',
    of=_FACTORS,
  )
  translator_batch_norm: bool = _field(
    'batch norm behind each convolution of the translator',
    default=False,
    of=_FACTORS,
  )
  # Hinton et al. 2015 give no one value; 4 and 0.9 are Zagoruyko and
  # Komodakis's (2017, section 4.1), and RepDistiller's.
  temperature: float = _field(
    'temperature of kd and dkd',
    above=0,
    default=4.0,
    of=('kd', 'dkd'),
  )
  kd_alpha: float = _field(
    'weight of kd; cross entropy has 1 - kd_alpha',
    least=0,
    most=1,
    default=0.9,
    of=('kd',),
  )
  # Zagoruyko and Komodakis 2017, section 4.1: 10^3; so RepDistiller.
  at_beta: float = _field(
    'weight of at',
    least=0,
    default=1000.0,
    of=('at',),
  )
  # RepDistiller, whose hint loss is a mean too.
  fitnet_weight: float = _field(
    'weight of fitnet',
    least=0,
    default=100.0,
    of=('fitnet',),
  )
  # Zhao et al. 2022, table 1 and the authors' configurations: alpha 1; beta 1,
  # 2, 6 or 8 by teacher, 2 for ResNet-56 and ResNet-20 on CIFAR-100.
  dkd_alpha: float = _field(
    "weight of dkd's divergence of the label",
    least=0,
    default=1.0,
    of=('dkd',),
  )
  dkd_beta: float = _field(
    "weight of dkd's divergence of the other classes",
    least=0,
    default=2.0,
    of=('dkd',),
  )
  # Tung and Mori 2019, section 4.1.
  sp_gamma: float = _field(
    'weight of sp',
    least=0,
    default=3000.0,
    of=('sp',),
  )
  # Heo et al. 2019, the authors' CIFAR-100 code.
  ofd_weight: float = _field(
    'weight of ofd',
    least=0,
    default=1e-3,
    of=('ofd',),
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
  teacher_layer: str = _field(
    "the teacher's layer whose feature map is paraphrased: a name; a pattern "
    'such as group?, whose last match is meant; auto, the last map; or -1, -2, '
    '..., the last map of the smallest size, of the size before it, ...; '
    'several with commas, each with a paraphraser and a translator of its own',
    of=_FACTORS,
    default=AUTO,
  )
  student_layer: str = _field(
    "the student's layer that translator and factor loss see, likewise",
    of=_FACTORS,
    default=AUTO,
  )
  before_activation: bool = _field(
    'factors are of the feature maps before their activation',
    default=False,
    of=_FACTORS,
  )
  data: Data
  teacher: Teacher
  paraphraser: Paraphraser
  student: Student


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


def taps(recipe: Recipe) -> list[tuple[str, str]]:
  """Returns the pairs of layers, of teacher and student, as a recipe has them.

  Raises:
    UsageError: they are not as many in both, or one stands twice.
  """
  theirs, ours = (
    tuple(part.strip() for part in layers.split(','))
    for layers in (recipe.teacher_layer, recipe.student_layer)
  )
  found = list(zip(theirs, ours, strict=False))
  if len(theirs) != len(ours) or len({*found}) != len(found):
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer} and '
      f'--student_layer={recipe.student_layer}: give as many layers of one as '
      'of the other, each pair once'
    )
  return found


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
      value = values[leaf.flag]
      if isinstance(value, str):  # of a file, perhaps
        value = paths.expand(value)
      groups.setdefault(leaf.group, {})[leaf.field.name] = value
  top = groups.pop('', {})
  for group, changes in groups.items():
    top[group] = dataclasses.replace(getattr(recipe, group), **changes)
  recipe = dataclasses.replace(recipe, **top)
  check(recipe)
  return recipe


# What a number of a type may be, numpy's among them.
_KINDS = {
  int: numbers.Integral,
  float: numbers.Real,
  bool: bool,
  str: str,
  float | str: (numbers.Real, str),
}


def check(recipe: Recipe) -> None:
  """Raises `UsageError` for the first value out of bounds, by its flag."""
  for leaf in leaves():
    value = leaf.value(recipe)
    kind = leaf.field.type
    for each in value if isinstance(value, tuple) else (value,):
      if not isinstance(each, _KINDS.get(kind) or _KINDS[kind.__args__[0]]):
        raise errors.UsageError(
          f'--{leaf.flag}={each!r}: {leaf.field.metadata["help"]}; it is not '
          f'of the type {getattr(kind, "__name__", kind)}'
        )
      wanted = _wanted(leaf.field.metadata, each)
      if wanted:
        raise errors.UsageError(
          f'--{leaf.flag}={each}: {leaf.field.metadata["help"]}; give {wanted}'
        )
  terms(recipe.student.method)
  if isinstance(recipe.student.beta, str) and recipe.student.beta != AUTO:
    raise errors.UsageError(
      f'--beta={recipe.student.beta}: give a number, or {AUTO}'
    )
  if recipe.data.resizing == 'crop' and recipe.data.pad:
    raise errors.UsageError(
      f'--pad={recipe.data.pad}: with --resizing=crop the crop is a part of '
      'the image, resized; give --pad=0'
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
  if isinstance(value, str):
    return ''
  if isinstance(value, float) and not abs(value) < float('inf'):
    return 'a finite number'
  if metadata['least'] is not None and value < metadata['least']:
    return f'{metadata["least"]} or more'
  if metadata['above'] is not None and not value > metadata['above']:
    return f'a value above {metadata["above"]}'
  if metadata['most'] is not None and value > metadata['most']:
    return f'{metadata["most"]} or less'
  return ''
