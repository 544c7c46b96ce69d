"""VGG-13 with batch norm (Simonyan and Zisserman 2015), for small images."""

import keras

from ft_tf.models import layers

_CHANNELS = (64, 128, 256, 512, 512)


def vgg13(spec: layers.Spec) -> keras.Model:
  """Returns VGG-13 with batch norm and one dense layer.

  Returns:
    A model from raw images `[B, H, W, C]` uint8, H and W at least 32, to logits
    `[B, classes]`. The layers `group1` .. `group5` are the feature maps after
    ReLU, before each pooling.
  """
  inputs, x = layers.images(spec)
  for group, channels in enumerate(_CHANNELS, start=1):
    for number in (1, 2):
      prefix = f'g{group}_{number}'
      x = layers.convolution(x, channels, bias=True, name=f'{prefix}_conv')
      x = layers.batch_norm(x, spec, name=f'{prefix}_bn')
      x = layers.relu(
        x, name=f'{prefix}_relu' if number == 1 else f'group{group}'
      )
    x = keras.layers.MaxPooling2D(2, name=f'g{group}_pool')(x)
  return keras.Model(inputs, layers.logits(x, spec), name='vgg13')
