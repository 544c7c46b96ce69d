"""The recipes by name: rows of the paper and of RepDistiller, and ours.

Sources are named as in `recipes`, and
  torchdistill: yoshitomo-matsubara/torchdistill, its ImageNet configuration of
    factor transfer.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from ft_tf import errors, recipe_flags, recipes, student_recipe

_CIFAR10: dict[str, Any] = {
  'dataset': 'cifar10',
  'mean': (0.4914, 0.4822, 0.4465),
  'std': (0.2023, 0.1994, 0.2010),
}
# torchvision's statistics.
IMAGENET: dict[str, Any] = {
  'mean': (0.485, 0.456, 0.406),
  'std': (0.229, 0.224, 0.225),
}
# The mode "caffe" of keras.applications subtracts the mean of ImageNet from raw
# values. These means are in the order red, green, blue; the network's input is
# in the order blue, green, red.
CAFFE: dict[str, Any] = {
  'mean': tuple(value / 255 for value in (123.68, 116.779, 103.939)),
  'std': (1 / 255,) * 3,
}
# RepDistiller's statistics of the training images.
_CIFAR100: dict[str, Any] = {
  'dataset': 'cifar100',
  'mean': (0.5071, 0.4867, 0.4408),
  'std': (0.2675, 0.2565, 0.2761),
}


def _public(teacher: str, student: str, **data: Any) -> recipes.Recipe:
  """Returns a recipe for two networks with the numbers of the public code.

  The public code trains on all 50,000 images; here 1,000 of them are set aside
  for validation. `validation_examples=0` gives the setting of the public code.
  """
  schedule: dict[str, Any] = {'epochs': 164, 'drop_epochs': (82, 123)}
  return recipes.Recipe(
    data=recipes.Data(**data, batch_size=128),
    teacher=recipes.Teacher(model=teacher, **schedule),
    paraphraser=recipes.Paraphraser(epochs=6),
    student=student_recipe.make(model=student, **schedule),
  )


def _rep_distiller(teacher: str, student: str) -> recipes.Recipe:
  """Returns a recipe for two networks on CIFAR-100, RepDistiller's schedule.

  The factor loss is that of the paper; `VARIANTS['ft_repdistiller']` is the
  variant of RepDistiller. 1,000 training images are set aside for validation.
  """
  schedule: dict[str, Any] = {
    'epochs': 240,
    'drop_epochs': (150, 180, 210),
    'learning_rate': 0.05,
  }
  return recipes.Recipe(
    data=recipes.Data(**_CIFAR100, batch_size=64),
    teacher=recipes.Teacher(model=teacher, **schedule),
    # helper/pretrain.py
    paraphraser=recipes.Paraphraser(epochs=30, learning_rate=0.01),
    student=student_recipe.make(model=student, **schedule),
  )


def cifar10_resnet56_resnet20() -> recipes.Recipe:
  """Paper, table of CIFAR-10: ResNet-56 to ResNet-20 (public code)."""
  return _public('resnet56', 'resnet20', **_CIFAR10)


def cifar10_wrn40x1_resnet20() -> recipes.Recipe:
  """Paper, table of CIFAR-10: WRN-40-1 to ResNet-20."""
  return _public('wrn-40-1', 'resnet20', **_CIFAR10)


def cifar10_wrn46x4_vgg13() -> recipes.Recipe:
  """Paper, table of CIFAR-10: WRN-46-4 to VGG-13."""
  return _public('wrn-46-4', 'vgg13', **_CIFAR10)


def cifar10_wrn16x2_wrn16x1() -> recipes.Recipe:
  """Paper, table of CIFAR-10: WRN-16-2 to WRN-16-1."""
  return _public('wrn-16-2', 'wrn-16-1', **_CIFAR10)


def cifar100_resnet110_resnet56() -> recipes.Recipe:
  """Paper, table of CIFAR-100: ResNet-110 to ResNet-56."""
  return _public('resnet110', 'resnet56', **_CIFAR100)


def cifar100_resnet110_resnet20() -> recipes.Recipe:
  """Paper, table of CIFAR-100: ResNet-110 to ResNet-20."""
  return _public('resnet110', 'resnet20', **_CIFAR100)


def cifar100_resnet56_resnet20() -> recipes.Recipe:
  """RepDistiller's table, in which factor transfer gains little."""
  return _rep_distiller('resnet56', 'resnet20')


def cifar100_resnet32x4_resnet8x4() -> recipes.Recipe:
  """RepDistiller's table: ResNets of four times the width."""
  return _rep_distiller('resnet32x4', 'resnet8x4')


def cifar100_wrn40x2_wrn16x2() -> recipes.Recipe:
  """RepDistiller's table: wide ResNets."""
  return _rep_distiller('wrn-40-2', 'wrn-16-2')


def imagenet_resnet34_resnet18() -> recipes.Recipe:
  """Paper, table of ImageNet: ResNet-34 to ResNet-18.

  Networks, augmentation, learning rates and epochs are those of torchdistill:
  90 epochs, as in torchvision's references, and 1 for the paraphraser. The
  factor loss is that of the paper with the beta of the public code: 500 for
  2,048 elements is 1,237 for the 12,544 elements of a 7x7 factor with 256
  channels; torchdistill uses 1,000. The test split is the 50,000 images that
  ImageNet calls validation. For validation 10,000 training images are set
  aside.
  """
  schedule: dict[str, Any] = {
    'epochs': 90,
    'drop_epochs': (30, 60),
    'weight_decay': 1e-4,
  }
  return recipes.Recipe(
    data=recipes.Data(
      dataset='imagenet2012',
      test_split='validation',
      image_size=224,
      resizing='crop',
      validation_examples=10_000,
      pad=0,
      **IMAGENET,
      batch_size=256,
    ),
    teacher=recipes.Teacher(model='resnet34', **schedule),
    paraphraser=recipes.Paraphraser(
      epochs=1, learning_rate=0.01, weight_decay=1e-4
    ),
    student=student_recipe.make(model='resnet18', **schedule),
  )


def pictures() -> recipes.Recipe:
  """Your own teacher and images; the default recipe.

  Our choice, not tuned on any data set: RandomResizedCrop and flips, mean and
  standard deviation of ImageNet, 30 epochs with a one-cycle learning rate, and
  beta of the public code. Images have the teacher's input size.
  """
  cycle: dict[str, Any] = {
    'epochs': 30,
    'decay': 'cosine',
    'warmup_epochs': 3.0,
  }
  return recipes.Recipe(
    data=recipes.Data(
      dataset='',
      resizing='crop',
      pad=0,
      validation_examples=0,
      **IMAGENET,
      batch_size=64,
    ),
    teacher=recipes.Teacher(model='', **cycle),
    paraphraser=recipes.Paraphraser(epochs=10),
    student=student_recipe.make(model='resnet20', **cycle),
  )


def photos() -> recipes.Recipe:
  """Your own images and a student that begins with random weights.

  As `photos_finetune`, but that the student's rate is 0.004. It was chosen by a
  student that was trained alone, on the validation images of two data sets, see
  `docs/guides/own-teacher.md`.
  """
  recipe = photos_finetune()
  return dataclasses.replace(
    recipe,
    student=dataclasses.replace(
      recipe.student, model='mobilenetv3small', learning_rate=0.004
    ),
  )


def photos_finetune() -> recipes.Recipe:
  """Your own images and a student that is pretrained, by --student_weights.

  As `pictures`, but teacher and student are trained by AdamW at a rate of 0.001
  and a decay of 0.05, which leaves out batch norm and biases: their pretrained
  values are far from 0. The optimizer and its rate were chosen by a student
  that was trained alone, on the validation images of two data sets, see
  `docs/guides/own-teacher.md`. The other numbers are those of `pictures`.
  """
  recipe = pictures()
  gentle: dict[str, Any] = {
    'optimizer': recipes.ADAMW,
    'learning_rate': 0.001,
    'weight_decay': 0.05,
    'weight_decay_on': 'kernels',
  }
  return dataclasses.replace(
    recipe,
    teacher=dataclasses.replace(recipe.teacher, **gentle),
    student=dataclasses.replace(recipe.student, model='mobilenetv2', **gentle),
  )


def short(recipe: recipes.Recipe) -> recipes.Recipe:
  """Returns a recipe for small machines: 10 epochs, one-cycle learning rate.

  Our choice: the learning rate rises for 3 epochs to 0.2 and falls as a cosine
  to 0 (Smith and Topin, "Super-Convergence", 2018). The paraphraser trains for
  at most 2 epochs at the learning rate of the recipe. The numbers are those of
  one trial of 5 epochs in another framework and were not tuned further.
  """
  cycle: dict[str, Any] = {
    'epochs': 10,
    'learning_rate': 0.2,
    'decay': 'cosine',
    'drop_epochs': (),
    'warmup_epochs': 3.0,
  }
  return dataclasses.replace(
    recipe,
    teacher=dataclasses.replace(recipe.teacher, **cycle),
    paraphraser=dataclasses.replace(
      recipe.paraphraser, epochs=min(2, recipe.paraphraser.epochs)
    ),
    student=dataclasses.replace(recipe.student, **cycle),
  )


def digits() -> recipes.Recipe:
  """Handwritten digits, enlarged to 16x16: the quickstart, in minutes on a CPU.

  Our choice, not the paper's: with 400 training images and 8 epochs, a student
  without a teacher has a clearly lower accuracy than the teacher. Networks,
  epochs, weights of the losses (3 to 5 values each, over 5 seeds) and layers
  were chosen on the 200 images set aside for validation. The layers are those
  of the second smallest size: the teacher has memorised its training images,
  and its last feature map holds little more than their class.
  """
  return recipes.Recipe(
    # One precision, so that the demo's results do not depend on whether the
    # processor has bfloat16. They still depend on its rounding.
    precision='float32',
    teacher_layer='-2',
    student_layer='-2',
    data=recipes.Data(
      dataset='digits',
      image_size=16,
      validation_examples=200,
      pad=2,
      flip=False,
      mean=(0.306,),
      std=(0.319,),
      batch_size=32,
    ),
    teacher=recipes.Teacher(model='resnet20', epochs=80, drop_epochs=(40, 60)),
    paraphraser=recipes.Paraphraser(epochs=40),
    student=student_recipe.make(
      model='resnet8x0.5',
      epochs=8,
      drop_epochs=(4, 6),
      beta=60.0,
      beta_elements=512,
      kd_alpha=0.5,
      dkd_beta=0.5,
      at_beta=10.0,
      fitnet_weight=10.0,
      sp_gamma=100.0,
    ),
  )


def _make_short(
  recipe: Callable[[], recipes.Recipe],
) -> Callable[[], recipes.Recipe]:
  return lambda: short(recipe())


_SHORT = '_short'
_LONG = (
  cifar10_resnet56_resnet20,
  cifar10_wrn40x1_resnet20,
  cifar10_wrn46x4_vgg13,
  cifar10_wrn16x2_wrn16x1,
  cifar100_resnet110_resnet56,
  cifar100_resnet110_resnet20,
  cifar100_resnet56_resnet20,
  cifar100_resnet32x4_resnet8x4,
  cifar100_wrn40x2_wrn16x2,
  imagenet_resnet34_resnet18,
)
RECIPES: dict[str, Callable[[], recipes.Recipe]] = {
  **{
    recipe.__name__: recipe
    for recipe in (*_LONG, digits, pictures, photos, photos_finetune)
  },
  **{f'{recipe.__name__}{_SHORT}': _make_short(recipe) for recipe in _LONG},
}

DEFAULT = pictures.__name__

# The paraphrasers of these implementations minimise the squared error at the
# learning rate of RepDistiller, the zoo and torchdistill; mmrazor publishes no
# training of the paraphraser. At a learning rate of 0.1 it diverges.
_SQUARED = {'reconstruction': 'l2', 'paraphraser_learning_rate': 0.01}
# Factor transfer as other public implementations have it: flag name to value.
VARIANTS: dict[str, dict[str, Any]] = {
  # models/util.py, distiller_zoo and scripts of RepDistiller.
  'ft_repdistiller': {
    'method': 'ft',
    'normalized': 'squared_mean',
    **_SQUARED,
    'translator_batch_norm': True,
    'beta': 200.0,
    'beta_elements': 0,
  },
  # AberHu/Knowledge-Distillation-zoo: its networks return maps before the ReLU.
  'ft_kd_zoo': {
    'method': 'ft',
    'before_activation': True,
    **_SQUARED,
    'beta': 200.0,
    'beta_elements': 0,
  },
  # yoshitomo-matsubara/torchdistill, its ImageNet configuration.
  'ft_torchdistill': {
    'method': 'ft',
    **_SQUARED,
    'beta': 1000.0,
    'beta_elements': 0,
  },
  # open-mmlab/mmrazor, its CIFAR-10 configuration.
  'ft_mmrazor': {
    'method': 'ft',
    **_SQUARED,
    'beta': 1.0,
    'beta_elements': 0,
  },
}

# What the page of a comparison calls them.
VARIANT_SOURCES = {
  'ft_repdistiller': 'RepDistiller (github.com/HobbitLong/RepDistiller)',
  'ft_kd_zoo': 'github.com/AberHu/Knowledge-Distillation-zoo',
  'ft_torchdistill': (
    'torchdistill (github.com/yoshitomo-matsubara/torchdistill), its ImageNet '
    'configuration'
  ),
  'ft_mmrazor': (
    'MMRazor (github.com/open-mmlab/mmrazor), its CIFAR-10 configuration'
  ),
}

# Our choice, on validation images of two data sets
# (docs/guides/own-teacher.md): the features have mean 0 and norm 1, so that one
# rate serves networks of every width.
_LINEAR_HEAD: dict[str, Any] = {
  'epochs': 50,
  'learning_rate': 3.0,
  'weight_decay': 3e-5,
  'decay': 'cosine',
}


def linear_head() -> dict[str, Any]:
  """Returns the flags by which a recipe trains a linear head: name to value.

  They replace how any recipe trains its student and augments its images, which
  is chosen for all weights of a student, and for images.
  """
  of_student = {field.name for field in dataclasses.fields(recipes.Student)}
  of_student -= {'model', 'student_weights', 'student_image_size'}
  values: dict[str, Any] = {}
  for leaf in recipe_flags.leaves():
    field = leaf.field
    stays = field.metadata['stored'] or field.metadata['shared']
    if leaf.group == 'student' and field.name in of_student:
      values[leaf.flag] = _LINEAR_HEAD.get(field.name, field.default)
    elif leaf.group == 'data' and not stays:
      values[leaf.flag] = field.default
  return {
    **{k: v for k, v in values.items() if v is not dataclasses.MISSING},
    'pad': 0,
    'flip': False,
    'method': recipes.LINEAR_HEAD,
    'precision': 'float32',
    'qat_epochs': 0,
  }


def get(name: str) -> recipes.Recipe:
  """Returns the recipe of that name; raises `UsageError` if there is none."""
  if name not in RECIPES:
    raise errors.UsageError(
      f'unknown recipe {name!r}{errors.did_you_mean(name, RECIPES)}; '
      '--list_recipes prints all'
    )
  return RECIPES[name]()


def describe(name: str) -> str:
  """Returns what a recipe is, in one line; '' under `python -OO`."""
  if name.endswith(_SHORT):
    return f'{name.removesuffix(_SHORT)} for small machines'
  return (RECIPES[name].__doc__ or '').partition('\n')[0]
