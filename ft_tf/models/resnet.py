"""ResNets (He et al. 2016): of 6n + 2 layers for CIFAR, and for ImageNet."""

import keras

from ft_tf.models import layers


def resnet(
  spec: layers.Spec,
  *,
  depth: int,
  width: float = 1.0,
  projection: bool = True,
) -> keras.Model:
  """Returns a ResNet whose groups have 16, 32 and 64 times `width` channels.

  Args:
    spec: The data's shape and statistics.
    depth: 6n + 2: 20, 32, 56, 110 in the papers.
    width: Factor of all channel numbers. The first convolution of a network
      wider than 1 has half as many as its first group, but 16 at least, as in
      RepDistiller's resnet8x4.
    projection: Shortcuts where the shape changes are a 1x1 convolution and
      batch norm, as in the factor transfer code; otherwise they subsample and
      pad channels with zeros, half before and half after, without parameters.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`. The
    layers `group1`, `group2` and `group3` are the groups' outputs after ReLU.
  """
  inputs, x = layers.images(spec)
  channels = [round(c * width) for c in (16, 32, 64)]
  stem = channels[0] if width <= 1 else max(16, channels[0] // 2)
  x = layers.convolution(x, stem, name='conv')
  x = layers.relu(layers.batch_norm(x, spec, name='bn'), name='relu')
  blocks = (depth - 2) // 6
  for group in range(3):
    for block in range(blocks):
      last = block == blocks - 1
      x = _block(
        x,
        channels[group],
        spec,
        stride=2 if group and not block else 1,
        projection=projection,
        prefix=f'g{group + 1}b{block + 1}',
        name=f'group{group + 1}' if last else None,
      )
  return keras.Model(inputs, layers.logits(x, spec), name=f'resnet{depth}')


# Blocks of each group (He et al. 2016, table 1).
_IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def imagenet_resnet(spec: layers.Spec, *, depth: int) -> keras.Model:
  """Returns a ResNet of basic blocks as torchvision has them.

  Args:
    spec: The data's shape and statistics.
    depth: 18 or 34.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`. The
    layers `group1` .. `group4`, of 64 to 512 channels, are the groups' outputs
    after ReLU, at 1/4 to 1/32 of the image's size.
  """
  inputs, x = layers.images(spec)
  x = layers.convolution(
    x, 64, size=7, stride=2, initializer=_he(), name='conv'
  )
  x = layers.relu(layers.batch_norm(x, spec, name='bn'), name='relu')
  # Zeros do not change a maximum of ReLU's outputs, which are not negative.
  x = keras.layers.ZeroPadding2D(1, name='pool_pad')(x)
  x = keras.layers.MaxPooling2D(3, 2, name='max_pool')(x)
  for group, blocks in enumerate(_IMAGENET[depth], start=1):
    for block in range(1, blocks + 1):
      x = _block(
        x,
        64 * 2 ** (group - 1),
        spec,
        stride=2 if group > 1 and block == 1 else 1,
        projection=True,
        prefix=f'g{group}b{block}',
        name=f'group{group}' if block == blocks else None,
        initializer=_he(),
      )
  return keras.Model(inputs, layers.logits(x, spec), name=f'resnet{depth}')


def _he():
  """Returns torchvision's initialiser of kernels: He's, of the fan out."""
  return keras.initializers.VarianceScaling(2, 'fan_out', 'untruncated_normal')


def _block(
  x, channels, spec, *, stride, projection, prefix, name, initializer=None
):
  """Returns ReLU(shortcut + two 3x3 convolutions with batch norm)."""
  y = layers.convolution(
    x,
    channels,
    stride=stride,
    initializer=initializer,
    name=f'{prefix}_conv1',
  )
  y = layers.batch_norm(y, spec, name=f'{prefix}_bn1')
  y = layers.relu(y, name=f'{prefix}_relu1')
  y = layers.convolution(
    y, channels, initializer=initializer, name=f'{prefix}_conv2'
  )
  y = layers.batch_norm(y, spec, name=f'{prefix}_bn2')
  if stride != 1 or x.shape[-1] != channels:
    shortcut = _projection if projection else _subsample_and_pad
    x = shortcut(x, channels, spec, stride, f'{prefix}_shortcut', initializer)
  y = keras.layers.Add(name=f'{prefix}_add')([x, y])
  return layers.relu(y, name=name or f'{prefix}_relu2')


def _projection(x, channels, spec, stride, prefix, initializer):
  x = layers.convolution(
    x,
    channels,
    size=1,
    stride=stride,
    initializer=initializer,
    name=f'{prefix}_conv',
  )
  return layers.batch_norm(x, spec, name=f'{prefix}_bn')


def _subsample_and_pad(x, channels, spec, stride, prefix, initializer):
  del spec, initializer
  x = keras.layers.MaxPooling2D(1, stride, name=f'{prefix}_subsample')(x)
  extra = channels - x.shape[-1]
  # With `channels_first` the layer pads the last two axes, here W and C: Keras
  # has no layer that pads channels.
  return keras.layers.ZeroPadding2D(
    ((0, 0), (extra // 2, extra - extra // 2)),
    data_format='channels_first',
    name=f'{prefix}_pad',
  )(x)
