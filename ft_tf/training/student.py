"""Stage 3: the student and what its method trains beside it."""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, evaluation, factors, recipes, run_dir
from ft_tf.data import datasets, sampling, views
from ft_tf.methods import base, registry
from ft_tf.models import folding, taps, zoo
from ft_tf.signals import cache
from ft_tf.training import (
  common,
  distillation,
  gradients,
  incumbent,
  loop,
  monitor,
  precision,
  sgd,
)

BEST = 'best.keras'
ADAPTER = 'adapter-{}.keras'  # of a term, for those who look into it
_BETA = 'beta.json'


def train_student(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  teacher: str | None = None,
  paraphrasers: Sequence[str] = (),
  signals: cache.Store | None = None,
  label: str | None = None,
) -> dict[str, Any]:
  """Trains a student by the recipe's method, or returns what is there.

  Args:
    recipe: Its `data`, `student` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` (the student alone, after the last epoch),
      `best.keras` (after the epoch that was best on the validation images, if
      there are any) and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    teacher: The trained teacher's `.keras` file; for `scratch` it is only
      compared with.
    paraphrasers: The `.keras` files of the teacher's paraphrasers, one for each
      pair of layers in their order, for methods that learn from them.
    signals: Where the teacher's signals are kept; None computes them in every
      step.
    label: What the result calls the method; its own name if None.

  Returns:
    The result: `accuracy`, `loss` and `calibration_error` on the test split,
    last epoch, computed in float32 as the exported student does;
    `best_accuracy`, that of `best.keras`, and `best_epoch`; with a teacher
    `teacher_agreement` and `teacher_divergence`.

  Raises:
    UsageError: the folder holds another run, the network is unknown, or
      teacher, paraphraser and student do not fit each other or the data.
    TrainingError: a loss term is not finite.
  """
  recipe = precision.settle(recipe)
  inputs = _inputs(recipe, teacher, paraphrasers)
  keras.utils.set_random_seed(recipe.seed)
  with strategy.scope():
    # First, so that one seed gives every method the same first weights.
    student = common.build_student(recipe, dataset)
    their = common.load_teacher(teacher, dataset) if teacher else None
    methods = []
    if recipes.terms(recipe.student.method):
      parts = registry.Parts(
        teacher=their,
        student=student,
        paraphrasers=[
          _load_paraphraser(path)
          for name, path in inputs.items()
          if name.startswith('paraphraser')
        ],
        examples=dataset.train,
      )
      methods = registry.make(recipe, parts)
  if zoo.is_file(recipe.student.model):
    inputs['student'] = recipe.student.model
  own = common.as_student_sees(recipe, dataset)
  if own is not dataset and recipe.student.method in recipes.INCUMBENTS:
    raise errors.UsageError(
      f'--method={recipe.student.method} shows teacher and student the same '
      'images: leave out --student_image_size'
    )
  identity = common.identity('student', recipe, **inputs)
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      return done
    for method in methods:
      if method.match:
        print(method.match, file=sys.stderr, flush=True)
    # Nothing but a term learns from images without labels. Who learns from
    # labels alone has as many steps, of labelled images.
    examples = dataset.every if methods else dataset.train
    with strategy.scope():
      optimizer, rate = sgd.make(
        recipe.student,
        len(dataset.every) / recipe.data.batch_size,
        recipe.precision,
      )
      optimizer.build(distillation.trained_variables(student, methods))
    signal, kept = None, None
    if methods:
      signal = distillation.compile_signal(their, methods, recipe.precision)
      if signals is not None and signals.enabled:
        kept = _fill(signals, their, methods, recipe, dataset, identity)
    if recipe.student.method in recipes.INCUMBENTS:
      train_steps = incumbent.compile_steps(
        strategy,
        teacher=their,
        student=student,
        optimizer=optimizer,
        method=recipe.student.method,
      )
    else:
      forward = distillation.make_forward(
        student,
        methods,
        recipe.data.batch_size,
        signal=signal,
        image_size=None if own is dataset else own.image_shape[:2],
        labelled_share=len(dataset.train) / len(examples),
      )
      train_steps = distillation.compile_steps(
        strategy,
        student,
        methods,
        optimizer,
        forward,
        jit=options.compiles_by_xla(recipe),
      )
    measure = dict
    if methods:
      measure = _gradients(student, methods, forward, recipe, dataset)
      _settle_beta(recipe, methods, measure, run)
    validate = common.validation(student, own.validation)
    best = os.path.join(run.path, BEST)
    stage = loop.Stage(
      name=f'student ({recipe.student.method}, seed {recipe.seed})',
      epochs=recipe.student.epochs,
      examples=examples,
      images_per_epoch=len(dataset.every),
      labels=True,
      signals=kept,
      train_steps=train_steps,
      state={
        'student': student,
        'adapters': [m.adapter for m in methods if m.adapter is not None],
        'optimizer': optimizer,
      },
      rate=rate,
      evaluate=lambda: validate() | measure(),
      pictures=_pictures(student, signal, methods, dataset, own),
      keep_best=lambda: common.save(best, student),
      precision=recipe.precision,
      teacher=teacher or '',
      teacher_terms=(*(m.name for m in methods), incumbent.DISTILLATION),
    )
    watch = loop.run(
      stage,
      data=recipe.data,
      seed=recipe.seed,
      run=run,
      strategy=strategy,
      options=options,
    )
    for method in methods:
      if method.adapter is not None:
        path = os.path.join(run.path, ADAPTER.format(method.name))
        common.save(path, method.adapter)
    scores = _test(student, best, own.test, their, dataset.test)
    rows = [r for r in run.metrics() if 'validation_accuracy' in r]
    if rows:
      scores['best_epoch'] = max(
        rows, key=lambda row: row['validation_accuracy']
      )['epoch']
    return common.finish(
      run,
      watch,
      student,
      scores,
      method=label or recipe.student.method,
      seed=recipe.seed,
    )


def _inputs(recipe, teacher, paraphrasers) -> dict[str, str]:
  """Returns the files that a method learns from, by name."""
  method = recipe.student.method
  if method == recipes.SCRATCH:
    return {}
  files = {'teacher': [teacher] if teacher else []}
  if recipes.needs_paraphraser(method):
    files['paraphraser'] = paraphrasers
  found = {}
  for name, paths in files.items():
    if not paths:
      raise errors.UsageError(
        f'--method={method} learns from a trained {name}: give --{name}, the '
        f'model.keras that bin/train_{name}.py left'
      )
    for number, path in enumerate(paths):
      found[_numbered(name, number)] = path
  return found


def _numbered(name: str, number: int) -> str:
  """Returns what a file is called among several of its kind."""
  return f'{name}_{number + 1}' if number else name


def _load_paraphraser(path: str) -> factors.Paraphraser:
  paraphraser = zoo.load(path)
  if not isinstance(paraphraser, factors.Paraphraser):
    raise errors.UsageError(
      f'--paraphraser={path} is not a paraphraser: give the model.keras that '
      'bin/train_paraphraser.py left'
    )
  return paraphraser


def _gradients(student, methods, forward, recipe, dataset):
  """Returns a function to the figures of the terms' gradients, by name.

  They are of a sample of the training images, as many as a batch, as they are;
  of those without labels as many as there are in a batch on average.
  """
  measure = gradients.compile_measure(
    forward,
    student=student,
    models=distillation.trained_models(student, methods),
    terms=[method.name for method in methods],
  )
  labelled, every = len(dataset.train), len(dataset.every)
  batch_size = recipe.data.batch_size
  count = round(batch_size * dataset.labelled_share)
  unlabelled = np.random.default_rng(0).permutation(every - labelled)
  # Repeated where there are less than a batch.
  places = [
    np.resize(sampling.positions(dataset.train, count), count),
    np.resize(labelled + unlabelled, batch_size - count),
  ]
  some = dataset.every.take(np.concatenate(places).astype(np.int64))
  batch = {
    'image': tf.constant(some.images[:]),
    'label': tf.constant(some.labels),
  }

  def figures():
    found = {}
    for method in methods:
      ratio, cosine = (float(x) for x in measure(batch)[method.name])
      ratio *= method.weight / np.prod([m.labels_weight for m in methods])
      found[f'gradient_ratio_{method.name}'] = float(ratio)
      found[f'gradient_cosine_{method.name}'] = cosine
    return found

  return figures


def _settle_beta(recipe, methods, measure, run) -> None:
  """Sets the factor loss's weight if the recipe leaves it to its gradient.

  It is kept in the run's folder: a run that continues has other gradients.

  Raises:
    TrainingError: the gradient is not finite.
  """
  if recipe.student.beta != recipes.AUTO:
    return
  ours = [
    method
    for method in methods
    if isinstance(method, registry.factor_transfer.FactorTransfer)
  ]
  betas = run.read(_BETA)
  if betas is None:
    measured = measure()
    betas = {}
    for method in ours:
      ratio = measured[f'gradient_ratio_{method.name}']
      if not math.isfinite(ratio):
        raise errors.TrainingError(
          f'{method.name} is not finite on the images that --beta=auto is set '
          'from: the outputs of the teacher are the likely cause; give another '
          'teacher'
        )
      beta = method.weight * recipe.student.beta_ratio / max(ratio, 1e-12)
      betas[method.name] = beta
      print(
        f'beta: {beta:.4g}, where {method.name} has '
        f"{recipe.student.beta_ratio:g} times cross entropy's gradient",
        file=sys.stderr,
        flush=True,
      )
    run.write(_BETA, betas)
  elif not isinstance(betas, dict):  # as it was when there was one
    betas = {ours[0].name: betas}
  for method in ours:
    method.weight = betas[method.name]


def _fill(store, teacher, methods, recipe, dataset, identity) -> cache.Joined:
  """Returns the signals of every view that the student will train on.

  Each term's are kept on their own, so that methods share them.
  """
  data, train = recipe.data, dataset.every
  parts, frozen = [], 0
  for method in methods:
    key = {
      **method.says,
      'precision': recipe.precision,
      'teacher_sha256': identity['teacher_sha256'],
      'images_sha256': train.digest,
      'shape': train.images.shape,
      'views': {
        name: getattr(data, name)
        for name in ('resizing', 'pad', 'flip', 'view_seed')
      },
    }
    if method.frozen:
      name = _numbered('paraphraser', frozen)
      key['paraphraser_sha256'] = identity[f'{name}_sha256']
      frozen += 1
    signal = distillation.compile_signal(teacher, [method], recipe.precision)
    kept = store.open(key, examples=len(train), width=signal.width)
    kept.fill(
      views.numbers(len(train), data, recipe.student.epochs),
      lambda number, signal=signal: (
        signal.rows(batch)
        for batch in views.view(train, data, number).as_numpy_iterator()
      ),
      lambda line: print(line, file=sys.stderr, flush=True),
    )
    parts.append(kept)
  return cache.Joined(parts)


def _test(student, best, test, teacher, its_test) -> dict[str, float]:
  """Returns the figures of the test split: it is looked at once, here.

  The teacher sees the same images at its own size, `its_test`.
  """
  outputs = evaluation.logits(_predictor(student), test.images)
  scores = common.scores(outputs, test.labels)
  if os.path.exists(best):
    kept = evaluation.evaluate(_predictor(zoo.load(best)), test)
    scores['best_accuracy'] = kept['accuracy']
  if teacher is not None:
    predict = _predictor(teacher, given='the teacher')
    theirs = evaluation.logits(predict, its_test.images)
    scores |= evaluation.likeness(outputs, theirs)
  return scores


def _predictor(model, given=''):
  return evaluation.KerasPredictor(folding.fold(model), given=given)


def _pictures(student, signal, methods, dataset, own):
  """Returns a function that shows a term's maps, if one has some to compare."""
  if not methods:
    return lambda: None
  features = taps.logits_and_features(
    student, sorted({layer for m in methods for layer in m.student_layers})
  )

  @tf.function
  def maps(images, seen):
    said = base.Outputs(*features(seen, training=False))
    for method, theirs in zip(methods, signal(images), strict=True):
      ours = method.adapt(said)
      if (
        tf.is_tensor(theirs)
        and theirs.shape.rank == 4
        and theirs.shape[1:].is_compatible_with(ours.shape[1:])
      ):
        return tf.cast(theirs, tf.float32), tf.cast(ours, tf.float32)
    return None

  images, seen = common.pictured(dataset), common.pictured(own)

  def pictures():
    pair = maps(tf.constant(images), tf.constant(seen))
    if pair is None:
      return None
    return monitor.mosaic(images, *(each.numpy() for each in pair))

  return pictures
