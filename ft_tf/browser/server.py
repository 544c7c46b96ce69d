"""A server for this machine's browser: a fixed list of names, read only."""

import errno
import http.server
import sys
from http import HTTPStatus
from typing import Any

from ft_tf import errors
from ft_tf.browser import site

_ADDRESS = '127.0.0.1'
_SECONDS = 30  # that a connection may stay silent
_OF_BODIES = ('Content-Length', 'Transfer-Encoding')


class Server(http.server.ThreadingHTTPServer):
  """Serves a site on the loopback address.

  Attributes:
    url: The page's address.
    hosts: The values of the header Host that are answered. A page of another
      site whose name leads to this machine (DNS rebinding) has another.
  """

  daemon_threads = True

  def __init__(self, contents: site.Site, port: int):
    """Takes the port.

    Args:
      contents: What is given out.
      port: The port; 0: a free one.

    Raises:
      UsageError: the port cannot be taken.
    """
    self.contents = contents
    try:
      super().__init__((_ADDRESS, port), _Handler)
    except OSError as error:
      taken = error.errno == errno.EADDRINUSE
      reason = 'is in use' if taken else f'cannot be taken ({error.strerror})'
      raise errors.UsageError(
        f'port {port} of {_ADDRESS} {reason}: give another --port, or --port=0 '
        'for a free one'
      ) from error
    self.url = f'http://{_ADDRESS}:{self.server_port}/'
    names = (_ADDRESS, 'localhost')
    self.hosts = {f'{name}:{self.server_port}' for name in names}
    if self.server_port == 80:
      self.hosts |= {*names}

  def handle_error(self, request: Any, client_address: Any) -> None:
    # A page that is closed while it loads is no error.
    if not isinstance(sys.exception(), OSError):
      super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers GET and HEAD of the site's names, and refuses all else."""

  server: Server
  protocol_version = 'HTTP/1.1'
  server_version, sys_version = 'ft_tf', ''
  timeout = _SECONDS
  # Plain text: what was asked for is in it.
  error_content_type = 'text/plain; charset=utf-8'
  error_message_format = '%(code)d %(message)s\n'

  def do_GET(self) -> None:
    resource = self._find()
    if resource is not None and self.command == 'GET':
      self.wfile.write(resource.content)

  do_HEAD = do_GET  # noqa: N815

  def _find(self) -> site.Resource | None:
    """Sends the head of the answer; returns what to send, if it is there."""
    if {*self.headers.get_all('Host', [''])} - self.server.hosts:
      self.send_error(HTTPStatus.MISDIRECTED_REQUEST, 'Another host')
    elif any(name in self.headers for name in _OF_BODIES):
      self.send_error(HTTPStatus.BAD_REQUEST, 'Nothing is uploaded here')
    elif self.path not in self.server.contents.resources:
      self.send_error(HTTPStatus.NOT_FOUND)
    else:
      resource = self.server.contents.resources[self.path]
      self.send_response(HTTPStatus.OK)
      self.send_header('Content-Type', resource.media_type)
      self.send_header('Content-Length', str(len(resource.content)))
      self.end_headers()
      return resource
    return None

  def end_headers(self) -> None:
    for name, value in self.server.contents.headers.items():
      self.send_header(name, value)
    super().end_headers()

  def log_message(self, format: str, *args: object) -> None:
    """Leaves the terminal to the address of the page."""
