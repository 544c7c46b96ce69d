"""The student step in PyTorch, from the published form to the fastest one."""

import re
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ft_tf.benchmark import jobs

PARTS = ('ft', 'cached')


class _Block(nn.Module):
  """ReLU(shortcut + two 3x3 convolutions with batch norm)."""

  def __init__(self, channels_in, channels, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(channels)
    self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(channels)
    self.shortcut = nn.Sequential()
    if stride != 1 or channels_in != channels:
      self.shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels, 1, stride, bias=False),
        nn.BatchNorm2d(channels),
      )

  def forward(self, x):
    y = functional.relu(self.bn1(self.conv1(x)))
    return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
  """ft_tf's `resnet<6n+2>`: normalised images to last features and logits."""

  def __init__(self, depth: int, classes: int = 10):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(16)
    groups, channels_in = [], 16
    for group, channels in enumerate((16, 32, 64)):
      blocks = []
      for block in range((depth - 2) // 6):
        stride = 2 if group and not block else 1
        blocks.append(_Block(channels_in, channels, stride))
        channels_in = channels
      groups.append(nn.Sequential(*blocks))
    self.layer1, self.layer2, self.layer3 = groups
    self.linear = nn.Linear(64, classes)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = functional.relu(self.bn1(self.conv1(x)))
    feature = self.layer3(self.layer2(self.layer1(x)))
    return feature, self.linear(feature.mean((2, 3)))


def chain(channels_in: int, channels: int) -> nn.Sequential:
  """Returns three convolutions: the paraphraser's encoder or a translator."""
  layers = []
  for first, last in (
    (channels_in, channels_in),
    (channels_in, channels),
    (channels, channels),
  ):
    layers += [nn.Conv2d(first, last, 3, 1, 1), nn.LeakyReLU(0.1)]
  return nn.Sequential(*layers)


def student_loss(
  logits: torch.Tensor,
  labels: torch.Tensor,
  student_factor: torch.Tensor,
  teacher_factor: torch.Tensor,
) -> torch.Tensor:
  """Returns cross entropy plus 500 times the factor loss of the public code."""
  student, teacher = (
    functional.normalize(factor.reshape(factor.size(0), -1).float())
    for factor in (student_factor, teacher_factor)
  )
  cross_entropy = functional.cross_entropy(logits.float(), labels)
  return cross_entropy + 500 * (student - teacher.detach()).abs().mean()


def make(job: jobs.Job) -> Callable[[int], float]:
  """Returns a function that repeats the job's step a given number of times."""
  torch.manual_seed(0)
  teacher, student = (
    ResNet(int(name.removeprefix('resnet')))
    for name in (job.teacher, job.student)
  )
  with torch.no_grad():
    for name, value in teacher.named_parameters():
      if re.search(r'bn\d.bias', name):
        value.normal_(0, 0.1)
    for name, value in teacher.named_buffers():
      if name.endswith('running_mean'):
        value.normal_(0, 0.1)
  return steps(job, teacher.eval(), chain(64, 32).eval(), student)


def steps(
  job: jobs.Job, teacher: nn.Module, encoder: nn.Module, student: nn.Module
) -> Callable[[int], float]:
  """Returns a function that trains a student on one random batch.

  Args:
    job: Precision, memory format and compilation of the step.
    teacher: Images to the last feature map and logits.
    encoder: The paraphraser's encoder.
    student: The network to train, with the outputs of `teacher`.
  """
  translator = chain(64, 32)
  images = torch.randn(job.batch_size, 3, job.image_size, job.image_size)
  labels = torch.randint(10, (job.batch_size,))
  if job.channels_last:
    for model in (teacher, encoder, student, translator):
      model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(
    [*student.parameters(), *translator.parameters()],
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
  )
  half = torch.autocast(
    'cpu', torch.bfloat16, enabled=job.precision == 'mixed_bfloat16'
  )

  def signal(images):
    # The public script keeps the teacher's graph, which no gradient uses.
    with torch.set_grad_enabled(not job.channels_last), half:
      return encoder(teacher(images)[0])

  def loss(images, labels, factor):
    with half:
      feature, logits = student(images)
      student_factor = translator(feature)
    return student_loss(logits, labels, student_factor, factor)

  if job.compiled:
    signal, loss = torch.compile(signal), torch.compile(loss)
  cached = signal(images).detach() if job.part == 'cached' else None

  def run(count):
    for _ in range(count):
      factor = signal(images) if cached is None else cached
      value = loss(images, labels, factor)
      optimizer.zero_grad()
      value.backward()
      optimizer.step()
    return float(value.detach())

  return run
