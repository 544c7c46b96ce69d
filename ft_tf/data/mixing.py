"""Images mixed in pairs: mixup and CutMix.

mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018) is
share * image + (1 - share) * partner. CutMix (Yun et al., "CutMix", ICCV 2019)
puts a box of the partner into the image; the share is then the part of the area
that stays. The loss of the labels is share * loss(label) + (1 - share) *
loss(label of the partner). In both the share is drawn from Beta(alpha, alpha).

Both papers mix an image with another one of its batch. Here partner, share and
box depend on (view seed, view number, example) alone, and so does the mixed
image: a run that continues, several devices and kept teacher signals see the
same one. In every view the partners are a random permutation of all examples,
so that each is the partner of exactly one (itself, once in a while). The
partner is shown in its own view of the same number. An image with a label has a
partner with a label, and one without has one without: no mixed image has half a
label.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from ft_tf import recipes
from ft_tf.data import chance, image_ops

# Names in a batch, besides 'label' of the image itself.
PARTNER_LABEL, SHARE = 'partner_label', 'share'

# Halvings of an interval until it has a float32's precision.
_HALVINGS = 24


def is_on(data: recipes.Data) -> bool:
  """Returns whether images are mixed."""
  return data.mixup_alpha > 0 or data.cutmix_alpha > 0


def choose_partners(
  count: int, labelled: int, data: recipes.Data, view: int | tf.Tensor
) -> tf.Tensor:
  """Returns the position of each example's partner in a view, `[N]` int64.

  Args:
    count: N, the number of examples.
    labelled: How many of them have labels; these come first.
    data: Its `view_seed` counts.
    view: The view number.
  """
  numbers = chance.draw(chance.PARTNER, [count], data.view_seed, view)
  return tf.concat(
    [
      chance.permute(0, labelled, numbers),
      chance.permute(labelled, count, numbers),
    ],
    axis=0,
  )


def draw(count: int, data: recipes.Data, view: int | tf.Tensor) -> tf.Tensor:
  """Returns the random numbers that `mix` needs of a view, `[N, 4]`."""
  return chance.draw(chance.MIXTURE, [count, 4], data.view_seed, view)


def mix(
  images: tf.Tensor,
  partners: tf.Tensor,
  numbers: tf.Tensor,
  *,
  mixup_alpha: float,
  cutmix_alpha: float,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns mixed images and the share of each that is the image's own.

  Args:
    images: `[B, H, W, C]`, uint8.
    partners: The images that they are mixed with, of the same shape.
    numbers: Random numbers `[B, 4]`, float32 in [0, 1): the quantile of the
      share, mixup or CutMix, row and column of the middle of the box.
    mixup_alpha: alpha of mixup; 0: all images are mixed by CutMix.
    cutmix_alpha: alpha of CutMix; 0: all images are mixed by mixup. If neither
      is 0, half of the images are mixed by each.

  Returns:
    Images `[B, H, W, C]` uint8 and shares `[B]` float32.
  """
  quantile, kind, row, column = tf.unstack(numbers, axis=1)
  by_mixup = 0.5 if mixup_alpha and cutmix_alpha else float(mixup_alpha > 0)
  cuts = kind >= by_mixup
  share = beta_quantile(quantile, tf.where(cuts, cutmix_alpha, mixup_alpha))
  if not cutmix_alpha:
    return _blend(images, partners, share), share
  inside = _inside_box(share, row, column, images.shape[1:3])
  cut = tf.where(inside[..., None], partners, images)
  left = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=[1, 2])
  if not mixup_alpha:
    return cut, left
  blended = _blend(images, partners, share)
  return (
    tf.where(cuts[:, None, None, None], cut, blended),
    tf.where(cuts, left, share),
  )


def _blend(images, partners, share):
  images, partners = tf.cast(images, tf.float32), tf.cast(partners, tf.float32)
  weights = share[:, None, None, None]
  return image_ops.to_uint8(partners + weights * (images - partners))


def _inside_box(share, row, column, size):
  """Returns which pixels a box covers, `[B, H, W]` boolean.

  The box has 1 - `share` of the area, but for what lies outside of the image;
  its middle is anywhere in the image (Yun et al., section 3.1).
  """
  covered = []
  side = tf.sqrt(1 - share)
  for middle, length in zip((row, column), size, strict=True):
    cut = tf.cast(side * length, tf.int32)
    first = tf.cast(middle * length, tf.int32) - cut // 2
    pixels = tf.range(length)[None, :]
    covered.append(
      (pixels >= first[:, None]) & (pixels < (first + cut)[:, None])
    )
  rows, columns = covered
  return rows[:, :, None] & columns[:, None, :]


def beta_quantile(quantiles: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
  """Returns quantiles of Beta(alpha, alpha), `[B]` float32, by bisection.

  They turn uniform random numbers into numbers of that distribution. TensorFlow
  may draw others from it in another release.

  Args:
    quantiles: `[B]`, float32 in [0, 1).
    alpha: `[B]`, float32 above 0.
  """
  low, high = tf.zeros_like(quantiles), tf.ones_like(quantiles)
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    below = tf.math.betainc(alpha, alpha, middle) < quantiles
    low, high = tf.where(below, middle, low), tf.where(below, high, middle)
  return (low + high) / 2


def over_labels(
  batch: Mapping[str, tf.Tensor], loss: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
  """Returns a loss of labels for a batch whose images may be mixed.

  Args:
    batch: A batch of `views.stream`, with labels.
    loss: From labels `[B]` to values `[B]` float32, one per image.

  Returns:
    `[B]` float32: the loss; for mixed images its mean over the two labels,
    weighted by their shares.
  """
  own = loss(batch['label'])
  if PARTNER_LABEL not in batch:
    return own
  share = batch[SHARE]
  return share * own + (1 - share) * loss(batch[PARTNER_LABEL])
