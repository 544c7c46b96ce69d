"""What a recipe is: frozen dataclasses, and the methods that it can name.

The student of a recipe has the numbers of every registered method as well,
which the files of the methods define; see `definitions` and `student_recipe`.

Sources named below and in the files of the methods:
  public code: the authors' Jangho-Kim/Factor-Transfer-pytorch, CIFAR-10.
  paper: Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression
    via Factor Transfer", NeurIPS 2018.
  RepDistiller: HobbitLong/RepDistiller, CIFAR-100, by the authors of Tian et
    al., "Contrastive Representation Distillation", ICLR 2020.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from ft_tf import definitions, errors, fields

SCRATCH = 'scratch'  # the method without a loss term: a baseline
# The pretrained student with all weights frozen but those of its last layer.
LINEAR_HEAD = 'linear_head'
WITHOUT_TEACHER = (SCRATCH, LINEAR_HEAD)
# The same student trained by keras.distillation.Distiller: with its default
# loss, and with a Kullback-Leibler divergence of probabilities.
KERAS_DISTILLER = 'keras_distiller'
KERAS_DISTILLER_KL = 'keras_distiller_kl'
INCUMBENTS = (KERAS_DISTILLER, KERAS_DISTILLER_KL)
AUTO = 'auto'
NONE, BALANCED = 'none', 'balanced'  # as of `Recipe.class_weights`
SGD, ADAMW = 'sgd', 'adamw'  # as of `Classifier.optimizer`
# Keras's seeds have 32 bits; those of further students are higher.
LARGEST_SEED = 2**31 - 1
MOST_SEEDS = 1000  # of students in one command
MOST_EPOCHS = 100_000
LARGEST_RATE = (
  1e30  # What diverges is a matter of the run; float32 ends at 3e38.
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The data set and the augmentation of its images."""

  dataset: str = fields.field(
    'TFDS name of an image classification data set; or folder:PATH, with '
    'images as train/<class>/<image>, test/<class>/<image> and optionally '
    'val/<class>/<image>',
    stored=True,
  )
  train_split: str = fields.field(
    'TFDS split for training', stored=True, default='train'
  )
  test_split: str = fields.field(
    'TFDS split for the final test', stored=True, default='test'
  )
  image_size: int | str = fields.field(  # as of `sizes`
    'size in pixels that images are resized to: 96 for squares, 96x160 for a '
    'height of 96 and a width of 160; 0: keep their size',
    least=0,
    stored=True,
    default=0,
  )
  resizing: str = fields.field(
    'how images are resized to --image_size: stretch (once, before padding and '
    'cropping) or crop (at each step: for training a random part of 8 to 100 % '
    'of the area, for evaluation the center)',
    choices=('stretch', 'crop'),
    stored=True,
    default='stretch',
  )
  max_bad_files: int = fields.field(
    'maximum number of images in a folder that are skipped because they cannot '
    'be decoded',
    least=0,
    most=10**9,
    stored=True,
    default=0,
  )
  channels: int = fields.field(
    'number of channels that images are converted to; 0: as many as the given '
    'teacher takes, or without a given teacher as many as the images have (in '
    'a folder: 1 if all images are grey, otherwise 3)',
    choices=(0, 1, 3),
    stored=True,
    default=0,
  )
  unlabeled: str = fields.field(
    'folder of additional images without labels, which train the paraphraser '
    'and the student by the distillation loss; files inside the folder of '
    '--dataset are skipped; empty: none',
    stored=True,
    default='',
  )
  validation_examples: int = fields.field(
    'number of training images to set aside for validation; ignored if the '
    'folder of --dataset has validation images',
    least=0,
    most=10**9,
    shared=True,
    default=1000,
  )
  pad: int = fields.field(
    'black pixels added on each side before the random crop; must be 0 with '
    '--resizing=crop',
    least=0,
    most=512,
    default=4,
  )
  flip: bool = fields.field(
    'flip half of the training images left to right', default=True
  )
  rand_augment_magnitude: float = fields.field(
    'magnitude of RandAugment, 0 to 30 as in torchvision (where 9 is the '
    'default): random operations on colours and geometry after the crop; 0: '
    'none',
    least=0,
    most=30,
    default=0.0,
    recent=True,
  )
  # The paper's for ImageNet, and torchvision's default.
  rand_augment_ops: int = fields.field(
    'number of operations that RandAugment applies to each image',
    least=1,
    most=20,
    default=2,
    recent=True,
  )
  mixup_alpha: float = fields.field(
    'mixup: training images and their cross entropies are mixed in pairs by a '
    'share from Beta(alpha, alpha); 0: none; with --cutmix_alpha half of them',
    least=0,
    most=100,
    default=0.0,
    recent=True,
  )
  cutmix_alpha: float = fields.field(
    'CutMix: each training image gets a box of another one whose area is drawn '
    'by Beta(alpha, alpha), and cross entropies are mixed by area; 0: none',
    least=0,
    most=100,
    default=0.0,
    recent=True,
  )
  mean: tuple[float, ...] = fields.field(
    'mean of each channel, for images scaled to 0-1', least=-10, most=10
  )
  std: tuple[float, ...] = fields.field(
    'standard deviation of each channel, for images scaled to 0-1',
    above=0,
    most=10,
  )
  view_seed: int = fields.field(
    'seed of the random crops, flips and other augmentations',
    least=0,
    most=LARGEST_SEED,
    default=0,
  )
  views: int = fields.field(
    'number of augmented copies of each training image, which epochs repeat in '
    'turn; 0: a new copy in every epoch',
    least=0,
    most=10**6,
    default=0,
  )
  batch_size: int = fields.field(
    'images per step, summed over all replicas',
    least=1,
    most=2**16,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimization:
  """Epochs, learning rate and decay, which every stage has."""

  epochs: int = fields.field(
    'number of training epochs',
    least=1,
    most=MOST_EPOCHS,
  )
  learning_rate: float = fields.field(
    'learning rate after warm-up and before any decay',
    above=0,
    most=LARGEST_RATE,
    default=0.1,
  )
  momentum: float = fields.field(
    'momentum of SGD, or beta_1 of AdamW', least=0, most=1, default=0.9
  )
  weight_decay: float = fields.field(
    'L2 weight decay, coupled in SGD, decoupled in AdamW',
    least=0,
    most=10,
    default=5e-4,
  )
  weight_decay_on: str = fields.field(
    'what decays: all variables (as in the paper), or kernels (without batch '
    'norm and biases)',
    choices=('all', 'kernels'),
    default='all',
    recent=True,
  )
  decay: str = fields.field(
    'learning-rate schedule: steps (multiply by drop_factor after each of '
    'drop_epochs) or cosine (from the end of the warm-up to 0 at the end)',
    choices=('steps', 'cosine'),
    default='steps',
  )
  drop_epochs: tuple[int, ...] = fields.field(
    'epochs after which the learning rate is multiplied by drop_factor',
    least=1,
    most=MOST_EPOCHS,
    default=(),
  )
  drop_factor: float = fields.field(
    'factor of the learning rate at each of drop_epochs',
    above=0,
    most=10,
    default=0.1,
  )
  warmup_epochs: float = fields.field(
    'epochs of linear learning-rate warm-up',
    least=0,
    most=MOST_EPOCHS,
    default=0.0,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(Optimization):
  """What teacher and student have besides: they may start from a file."""

  optimizer: str = fields.field(
    'sgd (with momentum, as in the paper) or adamw, whose learning rate is '
    'about 0.001',
    choices=(SGD, ADAMW),
    default=SGD,
    recent=True,
  )
  backbone_rate: float = fields.field(
    'factor of the learning rate of layers that start from a file, all but a '
    'fresh head',
    above=0,
    most=1,
    default=1.0,
    recent=True,
  )
  ema: float = fields.field(
    'decay per step, such as 0.999, of a moving average of the weights, which '
    'is saved in their place; 0: none',
    least=0,
    most=0.99999,
    default=0.0,
    recent=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher(Classifier):
  """The large network: trained here, or given as a file."""

  model: str = fields.field(
    'network name of the teacher to train, or a trained .keras or .onnx file'
  )
  teacher_outputs: str = fields.field(
    'outputs of a given teacher: logits, probabilities, or auto (a softmax at '
    'its end is detected and removed)',
    choices=('auto', 'logits', 'probabilities'),
    default='auto',
  )
  teacher_weights: str = fields.field(
    'weights file (.weights.h5, .h5 or .keras) for a teacher of '
    'keras.applications; if the number of classes matches, it is a finished '
    'teacher, otherwise a new head is added and the whole network is '
    'fine-tuned',
    default='',
  )
  preprocessing: str = fields.field(
    'preprocessing that a given teacher needs for raw images of 0-255: none '
    '(the model contains it; with --teacher_weights: that of its family), 0..1 '
    'or -1..1 (scaling), imagenet (scaling to 0-1, then mean and std), or '
    'caffe (BGR minus the mean, as keras.applications does for ResNet and VGG)',
    choices=('none', '0..1', '-1..1', 'imagenet', 'caffe'),
    default='none',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paraphraser(Optimization):
  """The autoencoder of the teacher's feature map (paper, section 3.1)."""

  rate: float = fields.field(
    'paraphrase rate k: factor channels divided by teacher channels',
    above=0,
    most=16,
    default=0.5,
  )
  reconstruction: str = fields.field(
    'reconstruction loss: l1 (mean absolute error) or l2 (mean squared error)',
    choices=('l1', 'l2'),
    default='l1',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student(Classifier):
  """The small network; `student_recipe` adds the method and its numbers."""

  model: str = fields.field(
    'network name of the student, or a .keras file to start from'
  )
  student_weights: str = fields.field(
    'weights file (.weights.h5, .h5 or .keras) that a student of '
    'keras.applications starts from, with the preprocessing of its family; if '
    'the number of classes differs, its head is fresh',
    default='',
    recent=True,
  )
  student_image_size: int | str = fields.field(  # as of `sizes`
    'student input size in pixels, such as 96 or 96x160 (height x width); the '
    'images that the teacher sees are downscaled to it (0: same as the '
    'teacher)',
    least=0,
    default=0,
  )
  # Of the student alone: soft targets of a teacher that was trained so tell
  # less of how classes resemble each other, and its students are less accurate
  # (Müller, Kornblith and Hinton, "When does label smoothing help?", 2019).
  label_smoothing: float = fields.field(
    'share of each label that the student learns as spread evenly over all '
    'classes, such as 0.1; terms of distillation are not smoothed',
    least=0,
    most=1,
    default=0.0,
    recent=True,
  )

  if TYPE_CHECKING:

    def __getattr__(self, name: str) -> Any:
      """The method and its numbers, which only the made class has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantisation:
  """Quantisation-aware training, which continues the student's, and int8."""

  epochs: int = fields.field(
    'number of epochs of quantisation-aware training, which continues the '
    'student with all terms of its loss while it computes as its int8 file '
    'does; 0: none, the int8 file is made after training',
    least=0,
    most=MOST_EPOCHS,
    default=0,
  )
  # Our choice, on validation images (docs/results/int8.md): batch norm stands
  # still, and 0.01 costs accuracy where a student has trained for a short time.
  learning_rate: float = fields.field(
    'learning rate at the start of quantisation-aware training; it falls as a '
    'cosine to 0',
    above=0,
    most=LARGEST_RATE,
    default=0.003,
  )
  # LiteRT's quantisation specification: weights per channel; accelerators may
  # demand one scale for each tensor.
  weight_scales: str = fields.field(
    'scales of int8 weights: channel (one per output channel, more accurate) '
    'or tensor (one per layer, which some accelerators need)',
    choices=('channel', 'tensor'),
    default='channel',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """Everything that decides the outcome of a compression."""

  seed: int = fields.field(
    'seed of the initial weights and of the order of images',
    least=0,
    most=LARGEST_SEED,
    default=0,
  )
  sync_batch_norm: bool = fields.field(
    'compute the statistics of batch norm over all replicas', default=False
  )
  precision: str = fields.field(
    'compute precision of the networks; weights, losses and statistics are '
    'float32; auto: the fastest on this machine',
    choices=('auto', 'float32', 'mixed_bfloat16', 'mixed_float16'),
    default='auto',
  )
  class_weights: str = fields.field(
    'weights of the classes in the cross entropy of teacher and student: none, '
    'or balanced (all training images of a class together weigh as much as '
    'those of any other); terms of distillation have no weights of classes',
    choices=(NONE, BALANCED),
    default=NONE,
    recent=True,
  )
  # These belong to factor transfer. They stand here because the
  # paraphraser's stage reads them as well as the student's.
  teacher_layer: str = fields.field(
    'teacher layer whose feature map is distilled: a name; a pattern such as '
    'group? (its last match); auto (the last feature map); or -1, -2, ... (the '
    'last feature map of the smallest size, of the next larger size, ...); '
    'several separated by commas, each with its own paraphraser and translator',
    default=AUTO,
  )
  student_layer: str = fields.field(
    'student layer to distil; same syntax as --teacher_layer', default=AUTO
  )
  before_activation: bool = fields.field(
    'use the feature maps before their activation', default=False
  )
  factor_form: str = fields.field(
    'form of paraphraser and translator: paper (three 3x3 layers of full '
    'width), bottleneck (1x1, 3x3 and 1x1, narrow in the middle), or auto: the '
    'bottleneck for maps of more than 256 channels, where the paper form is '
    'larger than the networks',
    choices=('auto', 'paper', 'bottleneck'),
    default='auto',
    recent=True,
  )
  new_head: bool = fields.field(
    'replace the last layer of a .keras --student or --teacher by a fresh one '
    'if its number of classes differs; such a teacher is not used as it is: it '
    'is trained (fine-tuned) on the data set first',
    default=False,
    recent=True,
  )
  data: Data
  teacher: Teacher
  paraphraser: Paraphraser
  student: Student
  qat: Quantisation = Quantisation()


def identity(recipe: Recipe) -> dict[str, Any]:
  """Returns what a run records of a recipe to tell it from another.

  Runs of earlier versions have no group `qat`, and no fields that are marked as
  `recent`. They are left out while they have their defaults, so that those runs
  are continued.
  """
  recorded = _recorded(recipe)
  if recipe.qat == Quantisation():
    del recorded['qat']
  return recorded


def _recorded(part: Any) -> dict[str, Any]:
  """Returns a recipe, or a group of it, as a dict of what is recorded."""
  recorded = {}
  for field in dataclasses.fields(part):
    value = getattr(part, field.name)
    if dataclasses.is_dataclass(value):
      recorded[field.name] = _recorded(value)
    elif not field.metadata.get('recent') or value != field.default:
      recorded[field.name] = value
  return recorded


def terms(method: str) -> tuple[str, ...]:
  """Returns the names of a method's loss terms: 'ft+kd' has two.

  'scratch' and 'linear_head' have none, nor have the incumbents, whose losses
  are Keras's.

  Raises:
    UsageError: there is no such method, or a sum repeats one.
  """
  if method in (*WITHOUT_TEACHER, *INCUMBENTS):
    return ()
  names = tuple(method.split('+'))
  known = definitions.registered()
  if set(names) <= known.keys():
    # A method and its variants are one term of the loss.
    distinct = {known[name].variant_of or name for name in names}
    if len(distinct) == len(names):
      return names
  raise errors.UsageError(
    f'--method={method}: give {SCRATCH}, one of {", ".join(known)}, a sum '
    f'of different ones such as ft+kd, {LINEAR_HEAD}, or '
    f'{" or ".join(INCUMBENTS)}'
  )


def needs_paraphraser(method: str) -> bool:
  """Tells whether a method learns from a paraphraser."""
  known = definitions.registered()
  return any(known[name].needs_paraphraser for name in terms(method))


def optimization_fields() -> tuple[dataclasses.Field, ...]:
  """Returns the fields of how long a stage trains, and by which rule."""
  return dataclasses.fields(Classifier)


def layer_pairs(recipe: Recipe) -> list[tuple[str, str]]:
  """Returns the pairs of teacher and student layers, as the recipe names them.

  Raises:
    UsageError: the numbers of layers differ, or a pair is repeated.
  """
  teacher_layers, student_layers = (
    tuple(part.strip() for part in layers.split(','))
    for layers in (recipe.teacher_layer, recipe.student_layer)
  )
  pairs = list(zip(teacher_layers, student_layers, strict=False))
  if len(teacher_layers) != len(student_layers) or len({*pairs}) != len(pairs):
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer} and '
      f'--student_layer={recipe.student_layer}: give as many layers of one as '
      'of the other, each pair once'
    )
  return pairs
