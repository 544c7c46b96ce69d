"""The stage of a student: its networks, its compiled steps and its figures."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ft_tf import errors, recipes, run_dir, specs, storage, teachers
from ft_tf.data import datasets
from ft_tf.evaluation import inference, metrics, predictors
from ft_tf.methods import base, registry
from ft_tf.models import archives, folding, fused, model_files, origins, seeds
from ft_tf.progress import reporter
from ft_tf.signals import cache, constant, filling
from ft_tf.training import (
  averaging,
  beta,
  class_weights,
  distillation,
  gradients,
  incumbent,
  loop,
  maps,
  optimizers,
  paraphraser,
  precision,
  programs,
  schedule,
  stage,
)

BEST = 'best.keras'
ADAPTER = 'adapter-{}.keras'  # of a term, for those who look into it


class StudentStage(stage.Stage):
  """The student by cross entropy and its method's terms (paper, equation 5).

  What continues a student's training is a subclass, with another network to
  run, another optimizer and other files.
  """

  def __init__(
    self,
    recipe: recipes.Recipe,
    dataset: datasets.Dataset,
    teacher: teachers.Teacher | None,
    paraphrasers: Sequence[paraphraser.TrainedParaphraser],
    signals: cache.Store | None,
    label: str | None,
    compiled: programs.Programs | None = None,
  ):
    self.recipe = precision.settle(recipe)
    self.dataset = dataset
    self.method = label or recipe.student.method
    self.name = f'student {self.method} seed {recipe.seed}'
    self.seen = specs.student_dataset(recipe, dataset)
    self.teacher = teacher
    self.paraphrasers: tuple[paraphraser.TrainedParaphraser, ...] = ()
    if recipes.needs_paraphraser(recipe.student.method):
      self.paraphrasers = tuple(paraphrasers)
    self._signals = signals
    self._programs = compiled or programs.Programs()
    self._check_inputs()
    self.class_weights = class_weights.of(recipe, dataset)

  def _check_inputs(self):
    method = self.recipe.student.method
    inputs = {
      'teacher': self.teacher is not None or method in recipes.WITHOUT_TEACHER
    }
    if recipes.needs_paraphraser(method):
      inputs['paraphraser'] = bool(self.paraphrasers)
    for name, present in inputs.items():
      if not present:
        raise errors.UsageError(
          f'--method={method} learns from a trained {name}: give --{name}, the '
          f'model.keras that ft-tf train-{name} wrote'
        )
    if self.seen is not self.dataset and method in recipes.INCUMBENTS:
      raise errors.UsageError(
        f'--method={method} shows teacher and student the same images: leave '
        'out --student_image_size'
      )

  def identity(self) -> dict[str, Any]:
    digests = {}
    if self.recipe.student.method not in recipes.WITHOUT_TEACHER:
      digests['teacher'] = self.required_teacher().sha256
    for number, trained in enumerate(self.paraphrasers, start=1):
      # The first has no number: most runs have one.
      suffix = f'_{number}' if number > 1 else ''
      digests[f'paraphraser{suffix}'] = trained.sha256
    path = specs.student_file(self.recipe.student)
    if path:
      digests['student'] = run_dir.digest(path)
    return stage.identity('student', self.recipe, **digests)

  def build(self, strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
      # First, so that one seed gives every method the same first weights.
      self.model = specs.build_student(self.recipe, self.dataset)
      self.methods = []
      if recipes.terms(self.recipe.student.method):
        seeds.skip_draws(
          self.required_teacher().seed_draws
          + sum(model_files.seed_draws(p.model) for p in self.paraphrasers)
        )
        self.methods = self.make_methods()

  def trained(self) -> list[keras.Model]:
    adapters = [m.adapter for m in self.methods if m.adapter is not None]
    return [self.moved, *adapters]

  def make_methods(self) -> list[base.Method]:
    """Returns the loss terms that learn from the teacher, for `model`."""
    parts = registry.Parts(
      teacher=self.required_teacher().model,
      student=self.model,
      paraphrasers=[trained.model for trained in self.paraphrasers],
      examples=self.dataset.train,
    )
    return registry.make(self.recipe, parts)

  def required_teacher(self) -> teachers.Teacher:
    """Returns the teacher, without which no method but scratch begins."""
    assert self.teacher is not None
    return self.teacher

  @property
  def moved(self) -> keras.Model:
    """The model of all variables that steps move, but for the adapters'."""
    return self.model

  def network(self) -> keras.Model:
    """Returns what a step runs, sharing the variables of `moved`."""
    return fused.fuse(self.model)

  def describe_start(self) -> str:
    """Returns what training starts from, in words; '' if fresh."""
    return specs.describe_start(self.recipe, self.dataset)

  def optimizer(
    self, steps_per_epoch: float
  ) -> tuple[keras.optimizers.Optimizer, schedule.Rate]:
    """Returns the optimizer and its learning rate by step."""
    return optimizers.make(
      self.recipe.student,
      steps_per_epoch,
      self.recipe.precision,
      origins.backbone(self.model),
    )

  def average(self) -> averaging.Average | None:
    """Returns the average of the weights that is kept; None: of none."""
    return averaging.make(
      distillation.trained_models(self.moved, self.methods),
      self.recipe.student.ema,
    )

  def settle_beta(
    self, measure: Callable[[], dict[str, float]], run: run_dir.RunDir
  ) -> None:
    """Sets the factor losses' weights where the recipe leaves them open."""
    beta.settle_beta(self.recipe, self.methods, measure, run)

  def prepare(
    self,
    run: run_dir.RunDir,
    strategy: tf.distribute.Strategy,
    options: loop.Options,
    part: reporter.Running,
  ) -> loop.Training:
    recipe, dataset = self.recipe, self.dataset
    start = self.describe_start()
    if start:
      part.say_once(f'student: {start}')
    for method in self.methods:
      if method.summary:
        part.say_once(method.summary)
    with strategy.scope():
      optimizer, rate = self.optimizer(
        len(dataset.every) / recipe.data.batch_size
      )
      optimizer.build(distillation.trained_variables(self.moved, self.methods))
      average = self.average()
    state = programs.State(
      model=self.model,
      methods=self.methods,
      moved=self.moved,
      optimizer=optimizer,
      average=average,
      generators=[keras.random.SeedGenerator() for _ in range(2)],
    )
    program = self._programs.get(
      self._program_key(strategy, options),
      state,
      lambda: self._compile(strategy, state, options),
    )
    frozen_sha256 = self._frozen_sha256()
    state = program.state
    self.model, self.methods = state.model, state.methods
    self.settle_beta(program.measure, run)
    return loop.Training(
      method=self.method,
      epochs=recipe.student.epochs,
      examples=self._examples(),
      images_per_epoch=len(dataset.every),
      labels=True,
      signals=self._kept_signals(program.signal, frozen_sha256),
      train_steps=program.train_steps,
      state={
        'student': state.moved,
        'adapters': [m.adapter for m in state.methods if m.adapter is not None],
        'optimizer': state.optimizer,
      },
      average=state.average,
      rate=rate,
      evaluate=lambda: program.validate() | program.measure(),
      pictures=program.pictures,
      keep_best=lambda: stage.save(os.path.join(run.path, BEST), self.model),
      precision=recipe.precision,
      teacher=self.teacher.path if self.teacher else '',
      teacher_terms=(*(m.name for m in self.methods), incumbent.DISTILLATION),
    )

  def _examples(self):
    """Returns what it trains on.

    Nothing but a term learns from images without labels. Who learns from labels
    alone has as many steps, of labelled images.
    """
    return self.dataset.every if self.methods else self.dataset.train

  def _program_key(
    self, strategy: tf.distribute.Strategy, options: loop.Options
  ) -> Hashable:
    """Returns what decides the compiled program, which is not the seed."""
    recorded = {k: v for k, v in self.identity().items() if k != 'seed'}
    settings = self.recipe.student
    # Of beta=auto the weights of terms are constants of the program, and each
    # seed's own; Keras's Distiller has more state than ours.
    if settings.beta == recipes.AUTO or settings.method in recipes.INCUMBENTS:
      recorded['seed'] = self.recipe.seed
    jit = options.compiles_by_xla(self.recipe)
    return json.dumps(recorded), strategy, self.dataset, jit

  def _compile(
    self,
    strategy: tf.distribute.Strategy,
    state: programs.State,
    options: loop.Options,
  ) -> programs.Program:
    """Returns the program of a state."""
    signal = None
    if self.methods:
      signal = self.required_teacher().signal(
        self.methods, self.recipe.precision
      )
    train_steps, measure = self._compile_steps(strategy, state, signal, options)
    return programs.Program(
      state=state,
      signal=signal,
      train_steps=train_steps,
      measure=measure,
      validate=stage.validation(self.moved, self.seen.validation),
      pictures=maps.compare(
        self.moved,
        signal,
        self.methods,
        stage.shown_images(self.dataset),
        stage.shown_images(self.seen),
      ),
    )

  def _compile_steps(self, strategy, state, signal, options):
    """Returns the compiled steps, and a function to the terms' gradients."""
    recipe, methods = self.recipe, self.methods
    of_steps, of_measure = state.generators
    if recipe.student.method in recipes.INCUMBENTS:
      train_steps = incumbent.compile_steps(
        strategy,
        teacher=self.required_teacher().model,
        student=self.model,
        optimizer=state.optimizer,
        method=recipe.student.method,
        average=state.average,
      )
      return train_steps, dict
    smaller = self.seen is not self.dataset
    forward = distillation.make_forward(
      self.network(),
      methods,
      recipe.data.batch_size,
      signal=signal,
      image_size=self.seen.image_shape[:2] if smaller else None,
      labelled_share=len(self.dataset.train) / len(self._examples()),
      class_weights=self.class_weights,
      label_smoothing=recipe.student.label_smoothing,
    )
    train_steps = distillation.compile_steps(
      strategy,
      self.moved,
      methods,
      state.optimizer,
      forward,
      jit=options.compiles_by_xla(recipe),
      average=state.average,
      generator=of_steps,
    )
    if not methods:
      return train_steps, dict
    measure = gradients.term_figures(
      forward,
      self.model,
      methods,
      self.dataset,
      recipe.data.batch_size,
      generator=of_measure,
    )
    return train_steps, measure

  def _frozen_sha256(self) -> list[str]:
    """Returns the digest of the paraphraser of each term; '' if it has none.

    Of the terms that `build` made: those of another student's program have the
    same paraphrasers by their files, but may have loaded them themselves.
    """
    digests = {id(t.model): t.sha256 for t in self.paraphrasers}
    return [''.join(digests[id(m)] for m in t.frozen) for t in self.methods]

  def _kept_signals(
    self, signal: constant.ConstantSignal | None, frozen_sha256: list[str]
  ) -> cache.Joined | constant.ConstantSignal | None:
    """Returns the signals of all views where they are kept.

    Otherwise what computes them ahead of the step; None: the step does.
    """
    if signal is None or self._signals is None or not self._signals.enabled:
      return signal if signal is not None and signal.calls_python else None
    return filling.fill(
      self._signals,
      signal,
      self.methods,
      self.recipe,
      self.dataset,
      teacher_sha256=self.required_teacher().sha256,
      frozen_sha256=frozen_sha256,
    )

  def score(self, run: run_dir.RunDir) -> dict[str, Any]:
    for method in self.methods:
      if method.adapter is not None:
        path = os.path.join(run.path, ADAPTER.format(method.name))
        stage.save(path, method.adapter)
    test = self.seen.test
    outputs = metrics.logits(_folded(self.model), test.images)
    scores = stage.score_test_split(run, outputs, self.seen)
    rows = [r for r in run.metrics() if 'validation_accuracy' in r]
    best = load_best(run) if rows else None
    if best is not None:
      kept = metrics.evaluate(_folded(best), test)
      scores['best_accuracy'] = kept['accuracy']
    if self.teacher is not None:
      # The teacher sees the same images at its own size.
      of_teacher = self.teacher.logits(self.dataset.test)
      scores |= metrics.likeness(outputs, of_teacher)
    if best is not None:
      best_row = max(rows, key=lambda row: row['validation_accuracy'])
      scores['best_epoch'] = best_row['epoch']
    return scores


def load_best(run: run_dir.RunDir) -> keras.Model | None:
  """Returns the student of the best epoch; None, with a line, if it is lost.

  What counts is the student of the last epoch, which does not need it.
  """
  path = os.path.join(run.path, BEST)
  consequence = (
    'the result is without best_accuracy; model.keras has the last weights'
  )
  if not os.path.lexists(path):
    print(f'{path} is missing: {consequence}', file=sys.stderr, flush=True)
    return None
  if archives.is_whole(path):
    with contextlib.suppress(errors.UsageError):
      return model_files.load(path)
  storage.say_damaged(path, consequence)
  return None


def _folded(model: keras.Model) -> inference.Predictor:
  """Returns a model's inference with batch norm folded, as it is exported."""
  return predictors.KerasPredictor(folding.fold(model))
