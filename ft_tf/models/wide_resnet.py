"""Wide ResNets of 6n + 4 layers (Zagoruyko and Komodakis 2016)."""

import keras

from ft_tf.models import layers


def wide_resnet(spec: layers.Spec, *, depth: int, width: int) -> keras.Model:
  """Returns WRN-depth-width, without dropout.

  Args:
    spec: The data's shape and statistics.
    depth: 6n + 4: 16, 40, 46 in the paper.
    width: The groups have 16, 32 and 64 times `width` channels.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`. The
    layers `group1` and `group2` are sums before activation, `group3` the last
    feature map after batch norm and ReLU, which the classifier pools.
  """
  inputs, x = layers.images(spec)
  x = layers.convolution(x, 16, name='conv')
  blocks = (depth - 4) // 6
  for group in range(3):
    for block in range(blocks):
      last = block == blocks - 1
      x = _block(
        x,
        16 * 2**group * width,
        spec,
        stride=2 if group and not block else 1,
        prefix=f'g{group + 1}b{block + 1}',
        name=f'group{group + 1}' if last and group < 2 else None,
      )
  x = layers.relu(layers.batch_norm(x, spec, name='bn'), name='group3')
  return keras.Model(
    inputs, layers.logits(x, spec), name=f'wrn-{depth}-{width}'
  )


def _block(x, channels, spec, *, stride, prefix, name):
  """Returns shortcut + (batch norm, ReLU, 3x3 convolution) twice."""
  y = layers.relu(
    layers.batch_norm(x, spec, name=f'{prefix}_bn1'), name=f'{prefix}_relu1'
  )
  if x.shape[-1] != channels or stride != 1:
    x = layers.convolution(
      y, channels, size=1, stride=stride, name=f'{prefix}_shortcut'
    )
  y = layers.convolution(y, channels, stride=stride, name=f'{prefix}_conv1')
  y = layers.relu(
    layers.batch_norm(y, spec, name=f'{prefix}_bn2'), name=f'{prefix}_relu2'
  )
  y = layers.convolution(y, channels, name=f'{prefix}_conv2')
  return keras.layers.Add(name=name or f'{prefix}_add')([x, y])
