"""The factor loss's weight by its gradient: --beta=auto."""

import math
import sys
from collections.abc import Callable

from ft_tf import errors, json_files, recipes, run_dir
from ft_tf.methods import base, factor_transfer

_FILE = 'beta.json'


def settle_beta(
  recipe: recipes.Recipe,
  methods: list[base.Method],
  measure: Callable[[], dict[str, float]],
  run: run_dir.RunDir,
) -> None:
  """Sets the factor losses' weights if the recipe leaves them to the gradient.

  They are kept in the run's folder: a run that continues has moved weights,
  whose gradients are others.

  Args:
    recipe: The student's.
    methods: The terms, whose `weight` is set.
    measure: As of `gradients.term_figures`.
    run: The claimed folder.

  Raises:
    TrainingError: a gradient is not finite.
  """
  factor_terms = [
    method
    for method in methods
    if isinstance(method, factor_transfer.FactorTransfer)
  ]
  if recipe.student.beta != recipes.AUTO or not factor_terms:
    return
  betas = run.read(_FILE)
  if betas is None:
    figures = measure()
    betas = {}
    for term in factor_terms:
      ratio = figures[f'gradient_ratio_{term.name}']
      if not math.isfinite(ratio):
        raise errors.TrainingError(
          f'{term.name} is not finite on the images that --beta=auto is set '
          'from: the outputs of the teacher are the likely cause; give another '
          'teacher'
        )
      beta = term.weight * recipe.student.beta_ratio / max(ratio, 1e-12)
      betas[term.name] = beta
      print(
        f'beta={beta:.4g} (auto: gradient of {term.name} = '
        f'{recipe.student.beta_ratio:g} x cross-entropy gradient)',
        file=sys.stderr,
        flush=True,
      )
    run.write(_FILE, betas)
  elif not isinstance(betas, dict):
    # A run of an older version, which had one factor loss and wrote a number.
    betas = {factor_terms[0].name: betas}
  with json_files.explained(run.path):
    for term in factor_terms:
      term.weight = float(betas[term.name])
