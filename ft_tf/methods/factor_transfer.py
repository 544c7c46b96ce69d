"""Factor transfer (Kim, Park and Kwak 2018) and its ablations: ft, ft_no_*."""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from ft_tf import definitions, errors, factors, fields, losses, recipes
from ft_tf.methods import base, registry
from ft_tf.models import feature_maps, layer_choice, taps

NO_TRANSLATOR = 'ft_no_translator'


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of factor transfer; sources are named as in `recipes`."""

  # Public code; the paper's equation 5.
  beta: float | str = fields.field(
    'weight of the factor loss; auto: the weight that makes its gradient '
    'beta_ratio times that of cross entropy at the first step',
    least=0,
    most=10**9,
    words=(recipes.AUTO,),
    default=500.0,
  )
  # The L1 norm of a difference of unit factors grows with sqrt(N), so that its
  # mean over N elements falls with 1/sqrt(N). The factors of the public code
  # have 2,048 elements: there a beta of 500 is the public code's. The scaling
  # makes it equally strong for any other k, width or image size.
  beta_elements: int = fields.field(
    'number of factor elements (H*W*C) that beta is meant for; for N elements '
    'beta is multiplied by (N/beta_elements)^(p/2); 0 disables this scaling',
    least=0,
    most=10**9,
    default=2048,
  )
  # Our measurement on CIFAR-10 (ResNet-56 to ResNet-20, 3 seeds): the public
  # code's 500 has a ratio of 1.1 to 1.8 at the first step, then 0.9 to 1.2.
  beta_ratio: float = fields.field(
    'target of --beta=auto: gradient norm of the factor loss divided by that '
    'of cross entropy, over the student variables at the first step',
    above=0,
    most=10**6,
    default=1.0,
  )
  # Paper, equation 3; p = 1 in the public code.
  p: int = fields.field(
    'norm of the factor difference', choices=(1, 2), default=1
  )
  normalized: str = fields.field(
    'factor normalisation: elements (paper) or squared_mean (RepDistiller)',
    choices=('elements', 'squared_mean'),
    default='elements',
  )
  # RepDistiller has it; paper and public code do not.
  translator_batch_norm: bool = fields.field(
    'add batch norm after each convolution of the translator', default=False
  )


class FactorTransfer(base.Method):
  """The student's translator learns to produce the paraphraser's factors.

  Signal: the paraphraser's factor of a feature map of the teacher. Adapter: the
  translator. Loss: `losses.factor_transfer` (paper, equations 3 and 5).
  Ablations of the paper: without a paraphraser the signal is the feature map
  itself; without a translator the student's feature map is the student factor.
  If the two maps differ in height and width, the larger one (the teacher's
  factor or the student's feature map) is average-pooled to the smaller size.

  Attributes:
    name: 'factor_transfer', followed by a number if there are several.
    elements: Number of elements of a factor, H * W * C.
  """

  def __init__(
    self,
    *,
    teacher: keras.Model,
    paraphraser: factors.Paraphraser | None,
    student: keras.Model,
    beta: float,
    p: int,
    beta_elements: int = 0,
    normalized: str = 'elements',
    teacher_layer: str | None = None,
    student_layer: str | None = None,
    translates: bool = True,
    batch_norm: str = '',
    form: str = 'auto',
    precision: str = 'float32',
    number: int = 0,
  ):
    """Connects a layer of the student with a layer of the teacher.

    Args:
      teacher: From raw images to logits; trained.
      paraphraser: Trained on the teacher's feature map; None: the factor is
        the feature map itself.
      student: From raw images to logits.
      beta: Weight of the loss.
      p: Norm of the loss, 1 or 2.
      beta_elements: Number of factor elements that beta is meant for. For N
        elements beta is multiplied by (N / beta_elements)^(p/2), since an
        element of a unit factor shrinks with 1/sqrt(N). 0: no scaling.
      normalized: As in `losses.factor_transfer`.
      teacher_layer: The teacher's layer; None: its last feature map.
      student_layer: The student's layer; None: its last feature map.
      translates: Whether there is a translator.
      batch_norm: That of the translator; see `factors.Translator`.
      form: Likewise.
      precision: Keras's dtype policy that signal and translator compute in.
      number: The position among several layer pairs, from 1; 0: the only pair.

    Raises:
      UsageError: the paraphraser belongs to another teacher, or there is no
        translator and the channels differ.
    """
    self.name = f'factor_transfer_{number}' if number else 'factor_transfer'
    self._p = p
    self._normalized = normalized
    self._teacher_layer = teacher_layer or layer_choice.last_feature_map(
      teacher
    )
    self._student_layer = student_layer or layer_choice.last_feature_map(
      student
    )
    self.teacher_layers = (self._teacher_layer,)
    self.student_layers = (self._student_layer,)
    teacher_shape = feature_maps.shape(teacher, self._teacher_layer)
    student_shape = feature_maps.shape(student, self._student_layer)
    self._size = (
      min(teacher_shape[0], student_shape[0]),
      min(teacher_shape[1], student_shape[1]),
    )
    self.signal_key = {
      'signal': 'factor',
      'layers': self.teacher_layers,
      'size': self._size,
    }
    teacher_map = _describe(self._teacher_layer, teacher_shape, self._size)
    student_map = _describe(self._student_layer, student_shape, self._size)
    self.summary = (
      f"{self.name}: from the teacher's {teacher_map} to the student's "
      f'{student_map}'
    )
    channels = teacher_shape[-1]
    self._paraphraser = None
    if paraphraser is not None:
      _check_paraphraser(paraphraser, self._teacher_layer, channels)
      paraphraser.trainable = False
      self.frozen = (paraphraser,)
      channels = paraphraser.encoder[-1].filters
      self._paraphraser = _in_precision(paraphraser, teacher_shape, precision)
    if translates:
      self.adapter = _translator(
        channels, batch_norm, form, student_shape, precision
      )
    elif student_shape[-1] != channels:
      raise errors.UsageError(
        'without a translator the factors must have the same number of '
        f'channels, not {channels} in the teacher and {student_shape[-1]} in '
        f'the student: give --rate={student_shape[-1] / teacher_shape[-1]:g}'
      )
    self.elements = int(np.prod(self._size)) * channels
    self.weight = beta
    if beta_elements:
      self.weight *= (self.elements / beta_elements) ** (p / 2)

  def read_paraphraser(self) -> None:
    """Reads the paraphraser's weights again, for whoever trains it later."""
    if self._paraphraser is not None:
      self._paraphraser.set_weights(self.frozen[0].get_weights())

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher factor, `[B, H, W, mk]`."""
    factor = teacher.features[self._teacher_layer]
    if self._paraphraser is not None:
      factor = self._paraphraser.encode(factor)
    return taps.average_to_size(factor, self._size)

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> tf.Tensor:
    """Returns the student factor, `[B, H, W, mk]`."""
    feature = taps.average_to_size(
      student.features[self._student_layer], self._size
    )
    if self.adapter is None:
      return feature
    return self.adapter(feature, training=training)

  def loss(
    self, adapted: tf.Tensor, signal: tf.Tensor, labels: tf.Tensor
  ) -> tf.Tensor:
    return losses.factor_transfer(
      adapted, signal, p=self._p, normalized=self._normalized
    )


def paraphrase_rate(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> float:
  """Returns the paraphrase rate k that a recipe's method needs.

  That is the recipe's own. Without a translator it is the one that gives the
  factor as many channels as the student's feature map has.

  Raises:
    UsageError: several layer pairs need different rates.
  """
  if NO_TRANSLATOR not in recipes.terms(recipe.student.method):
    return recipe.paraphraser.rate
  pairs = registry.resolve_layer_pairs(recipe, teacher, student)
  rates = {
    feature_maps.shape(student, student_layer)[-1]
    / feature_maps.shape(teacher, teacher_layer)[-1]
    for teacher_layer, student_layer in pairs
  }
  if len(rates) > 1:
    raise errors.UsageError(
      f'--method={recipe.student.method} has one paraphrase rate, the layers '
      f'ask for {", ".join(f"{rate:g}" for rate in sorted(rates))}: give one '
      'pair of layers, or --method=ft'
    )
  return rates.pop()


def _describe(
  layer: str, shape: tuple[int, int, int], size: tuple[int, int]
) -> str:
  """Returns a layer with its shape, and the size that it is pooled to."""
  text = f'{layer}, {"x".join(map(str, shape))}'
  if shape[:2] != size:
    text += f', averaged to {size[0]}x{size[1]}'
  return text


def _check_paraphraser(
  paraphraser: factors.Paraphraser, layer: str, channels: int
) -> None:
  """Raises `UsageError` if a paraphraser was trained on another layer."""
  trained_on = paraphraser.encoder[0].kernel.shape[2]
  if trained_on != channels:
    raise errors.UsageError(
      f'the paraphraser was trained on {trained_on} channels, the teacher has '
      f'{channels}: train the paraphraser of this teacher'
    )
  if paraphraser.layer not in ('', layer):
    raise errors.UsageError(
      f'the paraphraser was trained on the layer {paraphraser.layer}, not '
      f'{layer}: give --teacher_layer={paraphraser.layer}, or train the '
      'paraphraser of that layer'
    )


def _in_precision(
  paraphraser: factors.Paraphraser,
  shape: tuple[int, int, int],
  precision: str,
) -> factors.Paraphraser:
  """Returns a copy of a paraphraser that computes in another precision."""
  copy = factors.Paraphraser(
    paraphraser.rate, form=paraphraser.form, dtype=precision
  )
  copy.build((None, *shape))
  copy.set_weights(paraphraser.get_weights())
  return copy


def _translator(
  channels: int,
  batch_norm: str,
  form: str,
  shape: tuple[int, int, int],
  precision: str,
) -> factors.Translator:
  """Returns a translator for the student's feature maps, `(H, W, C)`."""
  # The loss does not depend on the scale of the student factor, which may grow
  # beyond the range of float16.
  if precision == 'mixed_float16':
    precision = 'float32'
  translator = factors.Translator(
    channels,
    batch_norm=batch_norm,
    form=form,
    name='translator',
    dtype=precision,
  )
  translator.build((None, *shape))
  return translator


def _make(
  numbers: Numbers,
  recipe: recipes.Recipe,
  parts: registry.Parts,
  *,
  paraphrases: bool = True,
  translates: bool = True,
) -> list[base.Method]:
  """Returns a loss term for each layer pair."""
  pairs = registry.resolve_layer_pairs(recipe, parts.teacher, parts.student)
  paraphrasers = parts.paraphrasers if paraphrases else [None] * len(pairs)
  if len(paraphrasers) != len(pairs):
    raise errors.UsageError(
      f'--method={recipe.student.method} learns from a trained paraphraser for '
      f'each of {len(pairs)} layers, and has {len(paraphrasers)}: give '
      '--paraphraser, the model.keras that ft-tf train-paraphraser wrote'
    )
  batch_norm = 'synchronized' if recipe.sync_batch_norm else 'own'
  beta, beta_elements = numbers.beta, numbers.beta_elements
  if isinstance(beta, str):
    # With --beta=auto the student's stage sets the weight, once the variables
    # whose gradients it measures exist.
    beta, beta_elements = 1.0, 0
  return [
    FactorTransfer(
      teacher=parts.teacher,
      paraphraser=paraphraser,
      student=parts.student,
      beta=beta,
      p=numbers.p,
      beta_elements=beta_elements,
      normalized=numbers.normalized,
      teacher_layer=teacher_layer,
      student_layer=student_layer,
      translates=translates,
      batch_norm=batch_norm if numbers.translator_batch_norm else '',
      form=recipe.factor_form,
      precision=recipe.precision,
      number=number if len(pairs) > 1 else 0,
    )
    for number, (paraphraser, (teacher_layer, student_layer)) in enumerate(
      zip(paraphrasers, pairs, strict=True), start=1
    )
  ]


_FT = definitions.Definition(
  name='ft',
  make=_make,
  numbers=Numbers,
  needs_paraphraser=True,
  recipe_fields=(
    'teacher_layer',
    'student_layer',
    'before_activation',
    'factor_form',
  ),
  about=(
    'factor transfer: a translator on the student learns the factors into '
    "which the paraphraser condenses the teacher's feature maps (Kim, Park "
    'and Kwak, NeurIPS 2018)'
  ),
)
definitions.register(_FT)
definitions.register(
  dataclasses.replace(
    _FT,
    name='ft_no_paraphraser',
    make=functools.partial(_make, paraphrases=False),
    needs_paraphraser=False,
    variant_of='ft',
    about=(
      'factor transfer without the paraphraser: the translator learns the '
      "teacher's feature map itself (ablation of Kim, Park and Kwak 2018)"
    ),
  )
)
definitions.register(
  dataclasses.replace(
    _FT,
    name=NO_TRANSLATOR,
    make=functools.partial(_make, translates=False),
    variant_of='ft',
    about=(
      "factor transfer without the translator: the student's feature map "
      'itself learns the factors (ablation of Kim, Park and Kwak 2018)'
    ),
  )
)
