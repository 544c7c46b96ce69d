"""The devices that training runs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from ft_tf import errors
from ft_tf.training import cluster, tf_config

# What devices are taken: the GPUs or the CPU, or a TPU.
KINDS = ('auto', 'tpu')


def make(num_replicas: int = 0, kind: str = 'auto') -> tf.distribute.Strategy:
  """Returns a strategy over the GPUs if there are any, otherwise the CPU.

  Args:
    num_replicas: Number of devices; 0 takes every GPU, or one CPU device. More
      than one on a machine without GPUs splits the CPU into logical devices,
      which must happen before TensorFlow is first used.
    kind: One of `KINDS`.

  Raises:
    UsageError: there are fewer GPUs or no TPU, or TensorFlow is already in use.
  """
  if num_replicas < 0:
    raise errors.UsageError(
      f'--num_replicas={num_replicas}: give 0 for all devices, or 1 or more'
    )
  if kind == 'tpu':
    _check_all(num_replicas, '--strategy=tpu')
    return _make_tpu()
  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    if num_replicas > len(gpus):
      raise errors.UsageError(
        f'--num_replicas={num_replicas}: there are {len(gpus)} GPUs; give 0 '
        'for all of them'
      )
    names = [f'GPU:{i}' for i in range(num_replicas or len(gpus))]
    return tf.distribute.MirroredStrategy(names)
  count = num_replicas or 1
  if count > 1:
    (cpu,) = tf.config.list_physical_devices('CPU')
    try:
      tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
      )
    except RuntimeError as error:
      raise errors.UsageError(
        f'--num_replicas={num_replicas}: make the strategy before anything '
        'else uses TensorFlow'
      ) from error
  return tf.distribute.MirroredStrategy([f'CPU:{i}' for i in range(count)])


def make_or_join(num_replicas: int, kind: str) -> tf.distribute.Strategy:
  """Returns what `make` does, or over all machines that TF_CONFIG names.

  Then it waits for them; see `cluster`.

  Raises:
    UsageError: as of `make`, or TF_CONFIG is wrong.
  """
  workers = tf_config.read()
  if workers is None:
    return make(num_replicas, kind)
  if kind != 'auto':
    raise errors.UsageError(
      f'--strategy={kind}: TF_CONFIG is set; leave out --strategy, or unset it'
    )
  _check_all(num_replicas, 'TF_CONFIG is set')
  return cluster.join(workers)


def _check_all(num_replicas: int, reason: str) -> None:
  if num_replicas:
    raise errors.UsageError(
      f'--num_replicas={num_replicas}: {reason}, which takes all devices; '
      'leave out --num_replicas'
    )


def _make_tpu() -> tf.distribute.TPUStrategy:
  """Returns the strategy of the TPU of this machine, or of TPU_NAME."""
  name = os.environ.get('TPU_NAME', 'local')
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name)
    return tf.distribute.TPUStrategy(resolver)
  except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
    raise errors.UsageError(
      f'--strategy=tpu: cannot use the TPU {name!r} '
      f'({errors.first_line(error)}): run it on a machine with a TPU, or leave '
      'out --strategy'
    ) from error


def check_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
  """Raises `UsageError` if a batch does not split evenly over the replicas."""
  replicas = strategy.num_replicas_in_sync
  if batch_size % replicas:
    raise errors.UsageError(
      f'--batch_size={batch_size} does not split over {replicas} replicas: '
      f'give a multiple of {replicas}'
    )


def distribute(
  strategy: tf.distribute.Strategy,
  stream: Callable[..., tf.data.Dataset],
  batch_size: int,
) -> Iterable[Any]:
  """Returns batches of which each replica gets its part.

  The replicas' parts, in the order of the replicas, are the batch: what they
  train on together does not depend on their number.

  Args:
    strategy: The devices.
    stream: From `share`, as of `views.stream`, to the batches.
    batch_size: Images per batch, of all replicas.
  """
  replicas = strategy.num_replicas_in_sync

  def stream_of(context: tf.distribute.InputContext) -> tf.data.Dataset:
    machines = context.num_input_pipelines
    batches = stream(share=(context.input_pipeline_id, machines))
    if replicas == machines:
      return batches
    return batches.rebatch(batch_size // replicas, drop_remainder=True)

  return strategy.distribute_datasets_from_function(stream_of)
