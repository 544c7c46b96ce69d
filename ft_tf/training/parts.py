"""The parts of a command, as its plan has them."""

from ft_tf import recipes, run_dir
from ft_tf.data import datasets, views
from ft_tf.progress import plan
from ft_tf.training import paraphraser


def of_teacher(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  *,
  given: bool,
) -> plan.Part:
  """Returns the part of the teacher; a given one is measured, not trained."""
  if given:
    return plan.Part(
      path=run.path,
      name='teacher',
      kind='teacher',
      note='given, measured on the test images',
    )
  images = len(dataset.train)
  return _trained(recipe, run, 'teacher', recipe.teacher.epochs, images)


def of_paraphrasers(
  recipe: recipes.Recipe, dataset: datasets.Dataset, run: run_dir.RunDir
) -> list[plan.Part]:
  """Returns a part for each layer of the teacher that has a paraphraser."""
  epochs, images = recipe.paraphraser.epochs, len(dataset.every)
  layer_runs = paraphraser.layer_runs(recipe, run)
  return [
    _trained(
      recipe,
      layer_run,
      'paraphraser' + (f' {layer}' if len(layer_runs) > 1 else ''),
      epochs,
      images,
    )
    for layer, layer_run in layer_runs.items()
  ]


def of_student(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  *,
  label: str = '',
) -> plan.Part:
  """Returns the part of a student.

  Args:
    recipe: The student's.
    dataset: The images.
    run: Its folder.
    label: What the result calls the method; '': its own name.
  """
  method = label or recipe.student.method
  kind = f'student {method}'
  if method == recipes.SCRATCH:
    kind = 'baseline'
  return _trained(
    recipe,
    run,
    f'{kind} seed {recipe.seed}',
    recipe.student.epochs,
    len(dataset.every),
    kind,
  )


def of_quantised(
  recipe: recipes.Recipe, dataset: datasets.Dataset, run: run_dir.RunDir
) -> plan.Part:
  """Returns the part of a student's quantisation-aware training."""
  kind = f'qat {recipe.student.method}'
  return _trained(
    recipe,
    run,
    f'{kind} seed {recipe.seed}',
    recipe.qat.epochs,
    len(dataset.every),
    kind,
  )


def of_export(path: str) -> plan.Part:
  """Returns the part that converts and measures the networks.

  Args:
    path: A folder of it, which no run has.
  """
  return plan.Part(
    path=path, name='export', kind='export', note='converted and measured'
  )


def _trained(
  recipe: recipes.Recipe,
  run: run_dir.RunDir,
  name: str,
  epochs: int,
  images: int,
  kind: str = '',
) -> plan.Part:
  return plan.Part(
    path=run.path,
    name=name,
    kind=kind or name,
    epochs=epochs,
    images=images,
    steps=views.count_steps(
      images, batch_size=recipe.data.batch_size, epochs=epochs
    ),
  )
