"""A network's name to a fresh model, a file to a trained one."""

import json
import os
import re
import sys
import zipfile

import h5py
import keras
import numpy as np

from ft_tf import errors
from ft_tf.models import (
  applications,
  graph,
  layers,
  pretrained,
  rebuilding,
  resnet,
  standard,
  vgg,
  wide_resnet,
)

NAMES = (
  'resnet<6n+2>, such as resnet20 or resnet56, with x<width> behind it for '
  'other channel numbers (resnet8x0.25) and -parameter-free for shortcuts '
  'without weights; wrn-<6n+4>-<width>, such as wrn-16-2; vgg13; resnet18 and '
  'resnet34, which are those for ImageNet; or one of keras.applications in '
  'lower case: mobilenet, mobilenetv2, mobilenetv3small and mobilenetv3large, '
  'these with x<width> (mobilenetv2x0.35), efficientnetb0, efficientnetv2b0, '
  'resnet50, resnet50v2, densenet121, convnexttiny, inceptionv3, '
  'inceptionresnetv2, nasnetmobile, vgg16, xception and their larger kin'
)

_RESNET = re.compile(r'resnet(\d+)(?:x(\d+(?:\.\d+)?))?(-parameter-free)?')
_WIDE_RESNET = re.compile(r'wrn-(\d+)-(\d+)')
_HDF5 = ('.h5', '.hdf5')
_OTHER_FILES = (
  *_HDF5,
  '.ckpt',
  '.onnx',
  '.pb',
  '.pt',
  '.pth',
  '.safetensors',
  '.tflite',
  '.th',
)
_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']*)'")


def is_file(name: str) -> bool:
  """Tells whether a model is named by its file rather than by its network."""
  return name.endswith('.keras')


def check_name(name: str, what: str) -> None:
  """Raises `UsageError` if a name is that of a file or folder of another kind.

  Args:
    name: A network's name or a file.
    what: How the message calls it, such as '--teacher=old.h5'.
  """
  saved_model = os.path.exists(os.path.join(name, 'saved_model.pb'))
  elsewhere = os.sep in name or name.endswith(_OTHER_FILES)
  if is_file(name) or not (saved_model or elsewhere):
    return
  if not os.path.exists(name):
    raise errors.UsageError(
      f'{what}: there is no such file or folder; give a .keras file'
    )
  if saved_model:
    raise errors.UsageError(
      f'{what} is a SavedModel, which does not have the layers of its model: '
      "give the .keras file that model.save('it.keras') writes where the model "
      'is built'
    )
  if os.path.isdir(name):
    raise errors.UsageError(f'{what} is a folder: give a .keras file')
  if not name.endswith(_HDF5):
    raise errors.UsageError(
      f'{what} is not a .keras file: give one that model.save wrote, or that '
      'bin/import_torch.py makes of a PyTorch checkpoint'
    )
  if not _is_whole(name):
    raise errors.UsageError(
      f'{what} holds weights without a model: give as --teacher the network of '
      'keras.applications that they are of and this file as --teacher_weights, '
      'or load_weights it into your model and save that as .keras'
    )
  target = f'{os.path.splitext(name)[0]}.keras'
  raise errors.UsageError(
    f'{what} is of an older format than .keras: convert it by python -c '
    f"\"import keras; keras.models.load_model('{name}', compile=False)"
    f".save('{target}')\" and give {target}; if Keras does not load it, build "
    'the model by its code, load_weights from the file, and model.save'
  )


def _is_whole(path) -> bool:
  """Tells whether an HDF5 file has a model beside weights."""
  try:
    with h5py.File(path) as file:
      return 'model_config' in file.attrs
  except OSError:
    return True  # Keras says what is wrong with it.


def build(
  name: str,
  spec: layers.Spec,
  *,
  weights: str = '',
  preprocessing: str = 'none',
) -> keras.Model:
  """Returns a network, fresh but for the weights that are given.

  Args:
    name: As in `NAMES`, or a `.keras` file, whose weights are the first ones;
      its layers get the precision and the batch norm of `spec`.
    spec: The data's shape and statistics.
    weights: A file for a network of keras.applications, see `pretrained.build`;
      '': none.
    preprocessing: What these weights want, likewise.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`
    float32. Of our own networks the layers `group1`, `group2`, ... are the
    named features.

  Raises:
    UsageError: there is no such network, or it does not fit the images.
  """
  if is_file(name):
    model, what = load(name), f'--student={name}'
    check_fits(
      model,
      what,
      image_shape=spec.image_shape,
      label_names=[''] * spec.classes,
      size='--student_image_size (at most --image_size) and --channels',
    )
    check_not_quantized(model, what)
    model = standard.standard(model, image_shape=spec.image_shape)[0]
    return _as_specified(model, spec, what)
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(spec.precision)
  try:
    if weights:
      return pretrained.build(name, spec, weights, preprocessing)
    return _build(name, spec)
  finally:
    keras.config.set_dtype_policy(before)


def _as_specified(model, spec, what):
  """Returns a file's model in the precision and with the batch norm of a run.

  Raises:
    UsageError: a layer of its maker's does not build again.
  """

  def others(model):
    last = {graph.producer(tensor).operation for tensor in model.outputs}
    return [
      layer
      for layer in graph.flat_layers(model)
      if layer is not model
      and not isinstance(layer, keras.layers.InputLayer)
      and layer not in last
      and layer.dtype_policy.name != spec.precision
    ]

  norms = [
    layer
    for layer in graph.flat_layers(model)
    if isinstance(layer, keras.layers.BatchNormalization)
  ]
  if not others(model) and all(
    norm.synchronized == spec.sync_batch_norm for norm in norms
  ):
    return model
  try:
    model = rebuilding.rebuild(
      model, precision=spec.precision, synchronized=spec.sync_batch_norm
    )
  except Exception as error:  # Of a user's own code, any.
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UsageError(
      f'{what} cannot be rebuilt with --precision={spec.precision} and '
      f'--sync_batch_norm={spec.sync_batch_norm} ({reason[0]}): give a model '
      "of Keras's own layers, or the precision it was saved in"
    ) from error
  kept = [layer.name for layer in others(model) if layer.weights]
  if kept:
    print(
      f'student: {", ".join(kept)} do not compute in {spec.precision}, as '
      'their configurations have it',
      file=sys.stderr,
      flush=True,
    )
  return model


def _build(name, spec):
  if not name:
    raise errors.UsageError(
      'give --teacher: a trained .keras file, or a network to train, which is '
      + NAMES
    )
  check_name(name, name)
  if name == 'vgg13':
    if min(spec.image_shape[:2]) < 32:
      raise errors.UsageError(
        f'vgg13 needs images of 32x32 or more, these are {spec.image_shape}: '
        'give a resnet or wrn, or --image_size=32'
      )
    return vgg.vgg13(spec)
  if name in ('resnet18', 'resnet34'):
    return resnet.imagenet_resnet(spec, depth=int(name[-2:]))
  if applications.is_name(name):
    return applications.build(name, spec)[0]
  match = _RESNET.fullmatch(name)
  # Where Keras has a ResNet of that depth, the depth means Keras's.
  if match and not applications.is_name(f'resnet{match[1]}'):
    depth, width = int(match[1]), float(match[2] or 1)
    if depth >= 8 and depth % 6 == 2 and round(16 * width) >= 1:
      return resnet.resnet(
        spec, depth=depth, width=width, projection=match[3] is None
      )
  match = _WIDE_RESNET.fullmatch(name)
  if match:
    depth, width = int(match[1]), int(match[2])
    if depth >= 10 and depth % 6 == 4 and width >= 1:
      return wide_resnet.wide_resnet(spec, depth=depth, width=width)
  raise errors.UsageError(f'unknown network {name!r}: give {NAMES}')


def load(path: str) -> keras.Model:
  """Returns the trained model of a `.keras` file.

  Raises:
    UsageError: there is no such file, it is not a model that Keras loads
      without running code from it, which `allow_unsafe` allows, or it has
      weights that are not finite.
  """
  if not os.path.isfile(path):
    raise errors.UsageError(
      f'there is no file {path}: give the path of a trained .keras model'
    )
  try:
    model = keras.models.load_model(path, compile=False)
  except Exception as error:  # Keras raises many kinds, down to zipfile's.
    if 'arbitrary code execution' in str(error):
      raise errors.UsageError(
        f'{path} holds the code of a Lambda layer, which would run here: give '
        '--allow_unsafe_model if you trust who made it, or a model of layers '
        'without code'
      ) from error
    version = _keras_version(path)
    if version.startswith('2.'):
      raise errors.UsageError(
        f'{path} was written by Keras {version}, and Keras {keras.__version__} '
        "does not read it: there write model.save_weights('it.h5'), here build "
        "the model anew by its code, load_weights('it.h5'), model.save"
      ) from error
    unknown = _UNKNOWN.search(str(error))
    if unknown:
      raise errors.UsageError(
        f'{path} holds the {unknown[1]} {unknown[2]!r}, which is not one of '
        "Keras's: build the model of Keras's own, or register yours by "
        'keras.saving.register_keras_serializable before the library loads it'
      ) from error
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UsageError(
      f'{path} does not load as a Keras model ({reason[0]}): give a .keras '
      'file written by model.save'
    ) from error
  check_finite(model, path)
  return model


def check_finite(model: keras.Model, path: str) -> None:
  """Raises `UsageError` if a weight of a loaded model is nan or infinite."""
  for weight in model.weights:
    values = keras.ops.convert_to_numpy(weight)
    if values.dtype.kind in 'fV' and not np.isfinite(values).all():
      raise errors.UsageError(
        f'{path} has values in {weight.path} that are not finite (nan or '
        'infinity): give a file from before its training diverged'
      )


def _keras_version(path) -> str:
  """Returns which Keras wrote a `.keras` file; '' if it does not say."""
  try:
    with zipfile.ZipFile(path) as file:
      return json.loads(file.read('metadata.json'))['keras_version']
  except (zipfile.BadZipFile, KeyError, ValueError, TypeError):
    return ''


def allow_unsafe() -> None:
  """Lets `load` run the code that Lambda layers bring along, from now on."""
  keras.config.enable_unsafe_deserialization()


def check_fits(
  model: keras.Model,
  what: str,
  *,
  image_shape: tuple[int, int, int],
  label_names: list[str],
  size: str = '--image_size',
) -> None:
  """Raises `UsageError` if a given model is not one for the data set.

  Args:
    model: The model.
    what: How the message calls it.
    image_shape: `(H, W, C)` of the data set's images.
    label_names: The data set's classes.
    size: The flag, or flags, that change the images which the model is given.
  """
  check_classifier(model, what)
  wanted = model.inputs[0].shape[1:]
  height, width, channels = image_shape
  if wanted == (channels, height, width) != image_shape:
    raise errors.UsageError(
      f'{what} takes images with their channels first, {wanted}: give a model '
      'of [B, H, W, C], such as this one behind keras.layers.Permute((3, 1, 2))'
    )
  if any(w not in (None, h) for w, h in zip(wanted, image_shape, strict=True)):
    raise errors.UsageError(
      f'{what} takes images of {wanted}, the data set has {image_shape}: give '
      f'the data set it was trained on, or its {size}'
    )
  classes = model.outputs[0].shape[-1]
  if classes == 1 and len(label_names) == 2:
    return  # See `standard.logits_of`.
  if classes == 1:
    raise errors.UsageError(
      f'{what} has one output, the data set {len(label_names)} classes: give a '
      'model with an output for each class'
    )
  if classes != len(label_names):
    raise errors.UsageError(
      f'{what} has {classes} classes, the data set {len(label_names)}: give '
      'the data set it was trained on'
    )


def check_not_quantized(model: keras.Model, what: str) -> None:
  """Raises `UsageError` if a model is one that `model.quantize` made.

  Such a model is neither trained nor converted here.

  Args:
    model: The model.
    what: How the message calls it.
  """
  for layer in graph.flat_layers(model):
    mode = getattr(layer, 'quantization_mode', None)
    if mode:
      raise errors.UsageError(
        f'{what} is quantized by Keras ({mode} in {layer.name}) and cannot be '
        'trained or converted: give the model from before model.quantize'
      )


def check_classifier(model: keras.Model, what: str) -> None:
  """Raises `UsageError` if a model is not one of images to logits.

  Args:
    model: The model.
    what: How the message calls it.
  """
  inputs = getattr(model, 'inputs', None) or []
  if len(inputs) != 1 or len(inputs[0].shape) != 4:
    raise errors.UsageError(
      f'{what} must take images [B, H, W, C] and nothing else, it takes '
      f'{[each.shape for each in inputs]}: give a functional or Sequential '
      'model of one Input'
    )
  outputs = model.compute_output_spec(inputs[0])
  if not isinstance(outputs, keras.KerasTensor) or len(outputs.shape) != 2:
    raise errors.UsageError(
      f'{what} must give logits [B, classes] and nothing else: give '
      'keras.Model(model.input, logits)'
    )
