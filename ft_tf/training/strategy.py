"""The devices that training runs on."""

import tensorflow as tf

from ft_tf import errors


def make(num_replicas: int = 0) -> tf.distribute.MirroredStrategy:
  """Returns a strategy over the GPUs if there are any, otherwise the CPU.

  Args:
    num_replicas: Number of devices; 0 takes every GPU, or one CPU device. More
      than one on a machine without GPUs splits the CPU into logical devices,
      which must happen before TensorFlow is first used.

  Raises:
    UsageError: there are fewer GPUs, or TensorFlow is already in use.
  """
  if num_replicas < 0:
    raise errors.UsageError(
      f'--num_replicas={num_replicas}: give 0 for all devices, or 1 or more'
    )
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


def check_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
  """Raises `UsageError` if a batch does not split evenly over the replicas."""
  replicas = strategy.num_replicas_in_sync
  if batch_size % replicas:
    raise errors.UsageError(
      f'--batch_size={batch_size} does not split over {replicas} replicas: '
      f'give a multiple of {replicas}'
    )
