"""What the doctor finds of the distilled layers, and of the factors."""

from collections.abc import Iterable, Iterator

import keras

from ft_tf import (
  definitions,
  factors,
  findings,
  recipe_fit,
  recipes,
  specs,
)
from ft_tf.methods import base, factor_transfer, registry
from ft_tf.models import feature_maps, layer_choice


def check(
  fit: recipe_fit.Fit,
  teacher_model: keras.Model,
  student_model: keras.Model,
) -> Iterator[findings.Finding]:
  """Yields the layers that a method distils, and what is between them.

  Nothing is yielded for a method that reads no feature map.

  Args:
    fit: What is to be run.
    teacher_model: The teacher.
    student_model: The student.

  Raises:
    UsageError: there is no such layer.
  """
  recipe = fit.recipe
  if not _reads(recipe, 'teacher_layer'):
    return
  show = findings.show_shape
  pairs = registry.resolve_layer_pairs(recipe, teacher_model, student_model)
  teacher_layers, student_layers = zip(*pairs, strict=True)
  for name, net, layers, selected_by in (
    ('teacher', teacher_model, teacher_layers, recipe.teacher_layer),
    ('student', student_model, student_layers, recipe.student_layer),
  ):
    names = [layer_choice.shown_name(net, layer) for layer in layers]
    chosen = ', '.join(
      f'{name} {show(feature_maps.shape(net, layer))}'
      for name, layer in zip(names, layers, strict=True)
    )
    alternatives = ', '.join(
      f'{each.layer} {show(each.shape)}'
      for each in layer_choice.candidates(net)
      if each.called and each.layer not in names
    )
    yield findings.Finding(
      f'{name} layer',
      f'{chosen} (selected by {selected_by})'
      + (f'; alternatives: {alternatives}' if alternatives else ''),
      f'--{name}_layer',
    )
  for teacher_layer, student_layer in pairs:
    matched = _describe_match(
      recipe,
      feature_maps.shape(teacher_model, teacher_layer),
      feature_maps.shape(student_model, student_layer),
    )
    yield findings.Finding('match', matched, '--rate')
  if _reads(recipe, 'factor_form'):
    yield findings.Finding(
      'factors',
      _describe_factors(fit.loss_terms, teacher_model, student_model),
      '--factor_form, --rate',
    )


def _reads(recipe: recipes.Recipe, field: str) -> bool:
  """Tells whether a term of the student's loss depends on a recipe's field."""
  methods = definitions.registered()
  terms = recipes.terms(recipe.student.method)
  return any(methods[name].reads(field) for name in terms)


def _describe_factors(
  loss_terms: Iterable[base.Method],
  teacher_model: keras.Model,
  student_model: keras.Model,
) -> str:
  """Returns form and size of paraphrasers and translators."""
  sizes = [
    f'{type(part).__name__.lower()} {specs.count_parameters(part):,} '
    f'parameters ({part.form} form)'
    for term in loss_terms
    for part in (*term.frozen, term.adapter)
    if isinstance(part, factors.Paraphraser | factors.Translator)
  ]
  return (
    f'{", ".join(sizes)}; the teacher has '
    f'{specs.count_parameters(teacher_model):,}, the student '
    f'{specs.count_parameters(student_model):,}'
  )


def _describe_match(
  recipe: recipes.Recipe,
  teacher_shape: tuple[int, int, int],
  student_shape: tuple[int, int, int],
) -> str:
  """Returns how two maps, `(H, W, C)` each, become factors of one shape."""
  show = findings.show_shape
  size = tuple(map(min, teacher_shape[:2], student_shape[:2]))
  method = recipe.student.method
  channels = teacher_shape[-1]
  steps = [f'teacher {show(teacher_shape)}']
  if recipes.needs_paraphraser(method):
    channels = round(channels * recipe.paraphraser.rate)
    steps.append(f'paraphraser to {channels} channels')
  if teacher_shape[:2] != size:
    steps.append(f'averaged from {show(teacher_shape[:2])} to {show(size)}')
  steps.append(
    f'factor {show((*size, channels))}; student {show(student_shape)}'
  )
  if student_shape[:2] != size:
    steps.append(f'averaged from {show(student_shape[:2])} to {show(size)}')
  if factor_transfer.NO_TRANSLATOR not in recipes.terms(method):
    steps.append(f'translator to {channels} channels')
  return ', '.join(steps)
