"""What a student has taken over from its teacher, beyond its answers.

Figures of validation images: the test split stays out of it.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import linear_model, pipeline, preprocessing

from ft_tf import evaluation, factors, recipes, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.methods import base, factor_transfer, registry
from ft_tf.models import folding, taps, zoo
from ft_tf.training import common, student

FILE = 'knowledge.json'
_PROBED = 5000  # training images that the linear probe is fitted to
_COMPARED = 1000  # validation images whose features are compared


def cka(first: np.ndarray, second: np.ndarray) -> float:
  """Returns the linear centred kernel alignment (Kornblith et al. 2019).

  Equation 5 there, of the examples' Gram matrices: 1 for features that are the
  same but for rotation and scale, near 0 for unrelated ones, 0 where one is
  the same for all examples.

  Args:
    first: Features of N examples, `[N, ...]`.
    second: Features of the same, of any other shape `[N, ...]`.
  """
  grams = []
  for features in (first, second):
    x = features.reshape(len(features), -1).astype(np.float64)
    x = x - x.mean(axis=0)
    grams.append(x @ x.T)
  one, two = grams
  norms = np.linalg.norm(one) * np.linalg.norm(two)
  return float((one * two).sum() / norms) if norms else 0.0


def look(
  run: run_dir.RunDir,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher: str,
  paraphrasers: Sequence[str],
) -> dict[str, Any]:
  """Returns the figures of a finished run of a student, and keeps them there.

  Args:
    run: The student's run; `knowledge.json` is left in it.
    recipe: The student's.
    dataset: The images; without validation images there are no figures.
    teacher: The teacher's `.keras` file.
    paraphrasers: The paraphrasers', if the method has some.

  Returns:
    `feature_cka`, of the two feature maps; `probe_accuracy` (0..1), of a
    logistic regression on the student's last map, averaged over its places;
    and with factor transfer `factor_cka`, of the two factors, and
    `feature_factor_cka`, of the student's map before its translator and the
    teacher's factor. Of several pairs of layers they are of the last.
  """
  known = run.read(FILE)
  if known is not None:
    return known
  images = _compared(dataset)
  if not len(images):
    return {}
  theirs, ours = (zoo.load(path) for path in (teacher, run.model))
  terms = _terms(recipe, run, dataset, theirs, ours, paraphrasers)
  *_, maps = registry.layers(recipe, theirs, ours)
  said = []
  own = common.as_student_sees(recipe, dataset)
  for net, layer, which, seen in (
    (theirs, maps[0], 'teacher_layers', images),
    (ours, maps[1], 'student_layers', _compared(own)),
  ):
    layers = {layer, *(each for term in terms for each in getattr(term, which))}
    said.append(_outputs(net, sorted(layers), seen))
  features = [s.features[layer] for s, layer in zip(said, maps, strict=True)]
  found = {'feature_cka': cka(*features)}
  for term in terms:
    if isinstance(term, factor_transfer.FactorTransfer):
      factor, adapted = (
        np.asarray(tf.cast(x, tf.float32))
        for x in (term.signal(said[0]), term.adapt(said[1]))
      )
      found['factor_cka'] = cka(factor, adapted)
      found['feature_factor_cka'] = cka(factor, features[1])
  found['probe_accuracy'] = _probe(ours, taps.last_feature_map(ours), own)
  run.write(FILE, found)
  return found


def _compared(dataset) -> np.ndarray:
  """Returns the validation images whose features are compared."""
  return sampling.sample(dataset.validation, _COMPARED).images[:]


def _terms(recipe, run, dataset, theirs, ours, paraphrasers):
  """Returns the terms of a student, with the adapters that it left."""
  if not recipes.terms(recipe.student.method):
    return []
  loaded = []
  if recipes.needs_paraphraser(recipe.student.method):
    loaded = [zoo.load(path) for path in paraphrasers]
    assert all(isinstance(each, factors.Paraphraser) for each in loaded)
  terms = registry.make(
    recipes.override(recipe, {'precision': 'float32'}),
    registry.Parts(
      teacher=theirs,
      student=ours,
      paraphrasers=loaded,
      examples=dataset.train,
    ),
  )
  for term in terms:
    if term.adapter is not None:
      path = os.path.join(run.path, student.ADAPTER.format(term.name))
      term.adapter.set_weights(keras.models.load_model(path).get_weights())
  return terms


def _outputs(net, layers, images) -> base.Outputs:
  """Returns what a network says of images, in float32 arrays."""
  outputs = tf.function(
    folding.fold(taps.logits_and_features(net, layers)), reduce_retracing=True
  )
  parts = []
  for first in range(0, len(images), 250):
    logits, features = outputs(tf.constant(images[first : first + 250]))
    parts.append((logits.numpy(), {k: v.numpy() for k, v in features.items()}))
  return base.Outputs(
    np.concatenate([logits for logits, _ in parts]),
    {k: np.concatenate([f[k] for _, f in parts]) for k in layers},
  )


def _probe(net, layer, dataset) -> float:
  """Returns the validation accuracy of a linear classifier on a feature map."""
  features = taps.features(folding.fold(net), [layer])
  pool = tf.function(
    lambda images: tf.reduce_mean(features(images)[layer], axis=(1, 2)),
    reduce_retracing=True,
  )

  def pooled(examples):
    return evaluation.in_batches(
      lambda images: pool(tf.constant(images)).numpy(), examples.images
    )

  train = sampling.sample(dataset.train, _PROBED)
  probe = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=1000),
  ).fit(pooled(train), train.labels)
  return float(
    probe.score(pooled(dataset.validation), dataset.validation.labels)
  )
