"""The server answers GET of its names on this machine, and nothing else."""

import contextlib
import http.client
import os
import socket
import threading

from absl.testing import absltest

from ft_tf import errors
from ft_tf.browser import server, site


class ServerTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    resources = {
      '/': site.Resource('text/html; charset=utf-8', b'<p>page</p>'),
      '/empty.js': site.Resource('text/javascript', b''),
    }
    headers = {
      'Content-Security-Policy': "default-src 'none'",
      'X-Content-Type-Options': 'nosniff',
    }
    self.server = server.Server(site.Site(resources, headers), 0)
    self.addCleanup(self.server.server_close)
    self.addCleanup(self.server.shutdown)
    threading.Thread(target=self.server.serve_forever, daemon=True).start()
    self.port = self.server.server_port

  def _ask(self, method='GET', path='/', host=None, **more):
    """Returns status, headers and body of an answer."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=10)
    self.addCleanup(connection.close)
    headers = {'Host': host} if host is not None else {}
    connection.request(method, path, headers=headers, **more)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()

  def _ask_raw(self, request):
    """Returns all that is answered to some bytes."""
    answer = b''
    with socket.create_connection(('127.0.0.1', self.port), 10) as connection:
      # The server may close the connection before it has read all.
      with contextlib.suppress(OSError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(2**16):
          answer += part
    return answer

  def test_page_is_given_with_its_headers(self):
    status, headers, body = self._ask()
    self.assertEqual((status, body), (200, b'<p>page</p>'))
    self.assertEqual(headers['Content-Type'], 'text/html; charset=utf-8')
    self.assertEqual(headers['Content-Security-Policy'], "default-src 'none'")
    self.assertEqual(headers['Server'].strip(), 'ft_tf')
    self.assertEqual(self._ask(path='/empty.js')[::2], (200, b''))

  def test_head_has_no_body(self):
    status, headers, body = self._ask('HEAD')
    self.assertEqual((status, body), (200, b''))
    self.assertEqual(headers['Content-Length'], '11')

  def test_other_methods_are_refused(self):
    for method in ('POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'X'):
      status, headers, body = self._ask(method)
      self.assertEqual(status, 501, method)
      self.assertNotIn(b'page', body)
      self.assertEqual(headers['X-Content-Type-Options'], 'nosniff')

  def test_bodies_are_refused(self):
    self.assertEqual(self._ask(body=b'GET / HTTP/1.1')[0], 400)
    answer = self._ask_raw(
      f'GET / HTTP/1.1\r\nHost: localhost:{self.port}\r\n'
      'Transfer-Encoding: chunked\r\n\r\n'
      f'GET / HTTP/1.1\r\nHost: localhost:{self.port}\r\n\r\n'.encode()
    )
    self.assertEqual(answer.count(b'HTTP/1.1'), 1)
    self.assertStartsWith(answer, b'HTTP/1.1 400')

  def test_other_names_are_not_found(self):
    for path in (
      '/index.html',
      '/..',
      '/../',
      '/../../etc/passwd',
      '//etc/passwd',
      '/%2e%2e/etc/passwd',
      '/.',
      '/?',
      '/?x',
      '/#',
      '/server.py',
      '/empty.js/',
      '/EMPTY.js',
      '/%65mpty.js',
      f'{os.getcwd()}/README.md',
      f'http://127.0.0.1:{self.port}/',
      '*',
    ):
      status, headers, body = self._ask(path=path)
      self.assertEqual((status, body), (404, b'404 Not Found\n'), path)
      self.assertStartsWith(headers['Content-Type'], 'text/plain')
      self.assertEqual(headers['Content-Security-Policy'], "default-src 'none'")

  def test_only_hosts_of_this_machine_are_answered(self):
    for host in (f'127.0.0.1:{self.port}', f'localhost:{self.port}'):
      self.assertEqual(self._ask(host=host)[0], 200)
    for host in (
      'evil.example',
      f'evil.example:{self.port}',
      f'localhost.evil.example:{self.port}',
      'localhost',
      '127.0.0.1',
      f'127.0.0.1:{self.port + 1}',
      f'[::1]:{self.port}',
      f'0.0.0.0:{self.port}',
      '',
    ):
      status, headers, body = self._ask(host=host)
      self.assertEqual((status, body), (421, b'421 Another host\n'), host)
      self.assertEqual(headers['Content-Security-Policy'], "default-src 'none'")

  def test_odd_requests_get_no_page(self):
    good = f'Host: localhost:{self.port}\r\n'
    for request in (
      'GET / HTTP/1.1\r\n\r\n',
      f'GET / HTTP/1.1\r\n{good}Host: evil.example\r\n\r\n',
      'GET /\r\n\r\n',
      f'GET / HTTP/2.0\r\n{good}\r\n',
      f'{"G" * 70000}',
      f'GET / HTTP/1.1\r\n{good}{"X: y" * 20000}\r\n\r\n',
      '\r\n\r\n',
      '\x16\x03\x01',
    ):
      answer = self._ask_raw(request.encode('latin-1'))
      self.assertNotIn(b'page', answer, request[:60])

  def test_connection_is_kept(self):
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=10)
    self.addCleanup(connection.close)
    for _ in range(3):
      connection.request('GET', '/')
      self.assertEqual(connection.getresponse().read(), b'<p>page</p>')

  def test_it_listens_on_the_loopback_address_alone(self):
    self.assertEqual(self.server.server_address[0], '127.0.0.1')
    self.assertEqual(self.server.url, f'http://127.0.0.1:{self.port}/')

  def test_taken_port(self):
    with self.assertRaisesRegex(errors.UsageError, 'is in use.*--port=0'):
      server.Server(self.server.contents, self.port)


if __name__ == '__main__':
  absltest.main()
