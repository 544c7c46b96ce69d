"""Factor transfer by Keras's own compile and fit.

`distill` is for classifiers and does everything. `Distiller` is for whoever has
a data set, a loss and callbacks of their own: any task whose models take
images.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from ft_tf import (
  distiller_parts,
  distiller_steps,
  errors,
  factors,
  python_terms,
)
from ft_tf.methods import base
from ft_tf.signals import compiled, constant


class Distiller(keras.Model):
  """Trains a student with the factors of a teacher, by compile and fit.

  ```python
  distiller = ft_tf.Distiller(teacher, student)
  distiller.fit_paraphraser(dataset, epochs=10)
  distiller.compile(optimizer='adam', loss='mse', metrics=['mae'])
  distiller.fit(dataset, epochs=50, validation_data=validation)
  distiller.student.save('student.keras')
  ```

  The loss is your task loss plus beta times the factor loss (paper, equation 5,
  for any task) and what layers of the student add to it, such as regularizers.
  `fit` takes the data that Keras's `fit` takes, with any targets. Teacher and
  student get the same images, unchanged: preprocessing belongs into the models.
  Their outputs may differ.

  Calling the Distiller, `predict` and `evaluate` run the student alone, so the
  validation loss is the task loss. Training logs the total as `loss`, and also
  `task_loss` and the unweighted `factor_transfer`.

  Sample weights `[B]` or `[B, 1]` weight the factor loss of each example as
  well as its task loss: an example of weight 0 only affects batch norm. Other
  sample weights (per pixel, or per output) only weight the task loss. The
  factor loss is the mean over the batch; under a strategy it is the mean over
  each replica's part, then over the replicas, as in Keras's own losses.

  The student runs once per step, in training mode. The teacher runs in
  inference mode, as a compiled graph without gradients. Paraphraser and
  translator use the precision of the student. To train under a `tf.distribute`
  strategy, create the Distiller within its scope.

  Save and deploy `distiller.student`. `save_weights` saves student,
  paraphrasers and translators, but not the teacher. `save` raises an error,
  because a Distiller is not a model to deploy.

  Keras has its own `keras.distillation.Distiller`, which takes losses. In Keras
  3.15 it cannot train a translator: a `DistillationLoss` is not a layer, so the
  weights of a translator inside it are not tracked and silently stay as they
  are. With layer names it also runs the student twice per step, so the
  statistics of batch norm are updated twice.

  Attributes:
    student: The student, the model to deploy.
    paraphrasers: One for each teacher layer; frozen except in
      `fit_paraphraser`.
    translators: One for each layer pair, trained with the student.
  """

  _signal: constant.ConstantSignal  # since `make_train_function`

  def __init__(
    self,
    teacher: keras.Model,
    student: keras.Model,
    *,
    paraphraser: factors.Paraphraser | None = None,
    method: str = 'ft',
    teacher_layer: str = 'auto',
    student_layer: str = 'auto',
    before_activation: bool = False,
    factor_form: str = 'auto',
    rate: float = 0.5,
    reconstruction: str = 'l1',
    beta: float = 500.0,
    beta_elements: int = 2048,
    p: int = 1,
    normalized: str = 'elements',
    translator_batch_norm: bool = False,
    name: str = 'distiller',
  ):
    """Connects a layer of the student with a layer of the teacher.

    Arguments have the meaning and the default of the flags of the same name.

    Args:
      teacher: A trained functional or Sequential model of images
        `[B, H, W, C]`, with any outputs. It is frozen.
      student: Another such model, for the same images.
      paraphraser: A paraphraser trained on the teacher layer. None: create one,
        which `fit_paraphraser` trains.
      method: 'ft', or an ablation: 'ft_no_paraphraser', 'ft_no_translator'.
      teacher_layer: Teacher layer whose feature map is distilled: a name, with
        / between a nested model and its layer; a pattern of names (its last
        match); 'auto' (the last feature map, which in a model that outputs maps
        is its output); or '-1', '-2', ... (the last feature map of the smallest
        size, of the next larger size, ...). Separate several by commas.
      student_layer: Student layer to distil; same syntax.
      before_activation: Use the feature maps before their activation.
      factor_form: Form of paraphraser and translator: 'paper', 'bottleneck' or
        'auto' (the bottleneck for more than 256 channels); see `factors`.
      rate: Paraphrase rate k: factor channels divided by teacher channels.
      reconstruction: Reconstruction loss of the paraphraser, 'l1' or 'l2'.
      beta: Weight of the factor loss.
      beta_elements: Number of factor elements that beta is meant for; for N
        elements beta is multiplied by (N / beta_elements)^(p / 2). 0 disables
        this scaling.
      p: Norm of the factor difference, 1 or 2.
      normalized: Factor normalisation; see `losses.factor_transfer`.
      translator_batch_norm: Add batch norm to the translator.
      name: See `keras.Model`.

    Raises:
      UsageError: the parts do not fit each other, or the layers of a model
        cannot be found because it is subclassed.
    """
    numbers = {
      'method': method,
      'teacher_layer': teacher_layer,
      'student_layer': student_layer,
      'before_activation': before_activation,
      'factor_form': factor_form,
      'rate': rate,
      'reconstruction': reconstruction,
      'beta': beta,
      'beta_elements': beta_elements,
      'p': p,
      'normalized': normalized,
      'translator_batch_norm': translator_batch_norm,
    }
    with python_terms.in_messages():
      parts = distiller_parts.make(teacher, student, numbers, paraphraser)
    super().__init__(name=name, dtype=parts.recipe.precision)
    self.student = student
    self.paraphrasers = list(parts.paraphrasers.values())
    self.translators = [
      term.adapter for term in parts.terms if term.adapter is not None
    ]
    self._parts = parts
    # A weight, so that `load_weights` brings it along.
    self._paraphraser_is_trained = self.add_weight(
      name='paraphraser_is_trained',
      shape=(),
      dtype='int32',
      initializer='zeros' if paraphraser is None else 'ones',
      trainable=False,
    )
    self._task_loss = keras.metrics.Mean(name='task_loss')
    self._factor_losses = [
      keras.metrics.Mean(name=term.name) for term in parts.terms
    ]
    self._evaluates = False
    self.built = True

  @property
  def output_names(self) -> list[str]:
    """The student's output names, which `compile` maps losses to."""
    return self.student.output_names

  def fit_paraphraser(
    self,
    x: Any,
    *,
    epochs: int = 1,
    optimizer: keras.optimizers.Optimizer | str | None = None,
    **kwargs: Any,
  ) -> keras.callbacks.History:
    """Trains the paraphrasers on the teacher's feature maps.

    A second call continues from their current weights.

    Args:
      x: Images in an array, or any data set that `fit` takes. Labels are not
        read; sample weights weight the loss of each example.
      epochs: Number of epochs.
      optimizer: An optimizer as for `compile`. None: SGD with the learning
        rate, momentum and weight decay that are the default of the recipes.
      **kwargs: Other arguments of Keras's `fit`: `batch_size`, `callbacks`,
        `validation_data`, ...

    Returns:
      The history of `loss`, the reconstruction loss (paper, equation 1), summed
      over the paraphrasers.

    Raises:
      UsageError: the method has no paraphraser.
      TrainingError: the loss is not finite.
    """
    if not self.paraphrasers:
      raise errors.UsageError(
        f'method={self._parts.recipe.student.method!r} learns from the '
        "teacher's feature map itself: leave out fit_paraphraser"
      )
    with self.distribute_strategy.scope():
      training = distiller_steps.ParaphraserTraining(self._parts)
      training.compile(
        optimizer=optimizer or distiller_parts.paraphraser_optimizer()
      )
    history = training.run(x, epochs=epochs, **kwargs)
    self._paraphraser_is_trained.assign(1)
    self._renew_signal()
    return history

  def load_weights(self, filepath: Any, **kwargs: Any) -> None:
    super().load_weights(filepath, **kwargs)
    self._renew_signal()

  def call(self, inputs: tf.Tensor, training: bool = False) -> Any:
    """Returns the student's outputs."""
    return self.student(inputs, training=training)

  def make_train_function(self, force: bool = False) -> Any:
    """Compiles the step, and the teacher's signal before it.

    Raises:
      UsageError: the paraphraser is not trained.
    """
    if self.train_function is None or force:
      self._signal = self._compile_signal()
    return super().make_train_function(force)

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    """Updates student and translators by one batch; called by `fit`."""
    with distiller_steps.after(data):
      return self._train_step(data)

  def _train_step(self, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    x = self._parts.check_images(x)
    signals = self._signal(x)
    replicas = distiller_steps.replicas()
    factor_losses = []
    with tf.GradientTape() as tape:
      student = base.Outputs(*self._parts.forward(x, training=True))
      y_pred = student.logits
      task_loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
      loss = task_loss
      for term, signal in zip(self._parts.terms, signals, strict=True):
        adapted = term.adapt(student, training=True)
        each = term.loss(adapted, signal, y)
        factor_losses.append(distiller_steps.mean(each, sample_weight))
        loss += term.weight * factor_losses[-1] / replicas
      scaled_loss = self.optimizer.scale_loss(loss)
    variables = self.trainable_variables
    self.optimizer.apply(tape.gradient(scaled_loss, variables), variables)
    # The first metric is Keras's own, of the total.
    trackers = [self.metrics[0], self._task_loss, *self._factor_losses]
    values = [loss * replicas, task_loss * replicas, *factor_losses]
    for tracker, value in zip(trackers, values, strict=True):
      tracker.update_state(value, sample_weight=tf.shape(x)[0])
    return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    with self._evaluating(), distiller_steps.after(data):
      return super().test_step(data)

  def evaluate(self, *args: Any, **kwargs: Any) -> Any:
    """Returns the student's loss and metrics; see `keras.Model.evaluate`."""
    with self._evaluating():
      return super().evaluate(*args, **kwargs)

  def get_metrics_result(self) -> dict[str, Any]:
    """Returns the metrics; those of training alone only in training."""
    results = super().get_metrics_result()
    if self._evaluates:
      for tracker in (self._task_loss, *self._factor_losses):
        del results[tracker.name]
    return results

  def get_config(self) -> dict[str, Any]:
    raise errors.UsageError(
      'a Distiller is not saved as a model: save distiller.student, and to '
      'continue the training distiller.save_weights'
    )

  @contextlib.contextmanager
  def _evaluating(self) -> Iterator[None]:
    before = self._evaluates
    self._evaluates = True
    try:
      yield
    finally:
      self._evaluates = before

  def _compile_signal(self) -> constant.ConstantSignal:
    if self.paraphrasers and not self._paraphraser_is_trained.numpy():
      raise errors.UsageError(
        'the paraphraser is not trained: call fit_paraphraser before fit, or '
        'give a trained one as paraphraser'
      )
    for term in self._parts.terms:
      term.read_paraphraser()
    with self._parts.flat_teacher() as teacher:
      return compiled.compile_signal(
        teacher, list(self._parts.terms), self._parts.recipe.precision
      )

  def _renew_signal(self) -> None:
    """Compiles step and signal again, which hold weights as constants."""
    if self.train_function is not None:
      self.make_train_function(force=True)
