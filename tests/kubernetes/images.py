# SPDX-License-Identifier: Apache-2.0
"""Images without a registry: OCI archives of a few of this machine's own programs, for `ctr images import`."""
import hashlib, io, json, os, shutil, subprocess, tarfile

APPLETS = ('sh ls cat echo sleep id ps mount env hostname grep touch tty stty seq true false wc head tail date kill dd nproc httpd nc wget '
           'chmod mkdir rm ln tar stat readlink od cut tr uname trap sync awk sed test find df du printf').split()


def closure(program):
    """A program and the libraries that it is linked with, each with the path where it looks for it."""
    found = {os.path.realpath(program)}
    p = subprocess.run(['ldd', program], capture_output=True, text=True)
    paths = [w for line in p.stdout.splitlines() for w in line.split() if w.startswith('/')]
    return {**{q: q for q in paths}, program: found.pop()}


class Root:
    """The files of an image's only layer."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode='w')
        self.there = set()
        for d in ('bin', 'etc', 'root', 'tmp', 'usr', 'usr/bin', 'var', 'proc', 'sys', 'dev', 'data'):
            self.directory(d)
        self.text('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n')
        self.text('etc/group', 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n')

    def add(self, name, data=b'', mode=0o755, **more):
        if name in self.there:
            return
        self.there.add(name)
        info = tarfile.TarInfo(name)
        info.mode, info.size = mode, len(data)
        for key, value in more.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(data))

    def directory(self, name):
        for i, c in enumerate(name + '/'):
            if c == '/':
                self.add(name[:i], type=tarfile.DIRTYPE, mode=0o1777 if name == 'tmp' else 0o755)

    def text(self, name, text):
        self.add(name, text.encode(), 0o644)

    def program(self, path, name=None):
        """With its libraries, at the path that it has here."""
        for at, source in closure(path).items():
            at = (name or at) if at == path else at
            self.directory(os.path.dirname(at).lstrip('/'))
            with open(os.path.realpath(source), 'rb') as f:
                self.add(at.lstrip('/'), f.read())

    def busybox(self, applets=APPLETS):
        self.program(shutil.which('busybox'), '/bin/busybox')
        for a in applets:
            if a:
                self.add('bin/' + a, type=tarfile.SYMTYPE, linkname='busybox')

    def layer(self):
        self.tar.close()
        return self.bytes.getvalue()


def archive(path, name, root, config):
    """Writes an OCI archive of one image."""
    layer = root.layer()
    kinds = 'application/vnd.oci.image.'
    blobs = {}

    def blob(data, kind):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {'mediaType': kinds + kind, 'digest': 'sha256:' + digest, 'size': len(data)}

    top = blob(layer, 'layer.v1.tar')
    about = blob({'architecture': 'amd64', 'os': 'linux', 'config': config, 'rootfs': {'type': 'layers', 'diff_ids': [top['digest']]}}, 'config.v1+json')
    manifest = blob({'schemaVersion': 2, 'mediaType': kinds + 'manifest.v1+json', 'config': about, 'layers': [top]}, 'manifest.v1+json')
    manifest['annotations'] = {'io.containerd.image.name': name}
    with tarfile.open(path, 'w') as t:
        files = {'oci-layout': b'{"imageLayoutVersion":"1.0.0"}', 'index.json': json.dumps({'schemaVersion': 2, 'manifests': [manifest]}).encode()}
        files.update({'blobs/sha256/' + d: data for d, data in blobs.items()})
        for file, data in files.items():
            info = tarfile.TarInfo(file)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


ENVIRONMENT = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']
PAUSE = 'registry.k8s.io/pause:3.6'
TEST = 'localhost/caisson-test:latest'


def make(directory, programs):
    """Archives of all images; programs: the directory of Caisson's own."""
    made = []

    def image(name, root, **config):
        path = os.path.join(directory, '%d.tar' % len(made))
        archive(path, name, root, {'Env': ENVIRONMENT, **config})
        made.append(path)

    root = Root()
    root.busybox(['sleep'])
    image(PAUSE, root, Entrypoint=['/bin/sleep', '1000000'])
    root = Root()
    root.busybox()
    image(TEST, root, Cmd=['sh'])
    # What example-untrusted.yaml asks for: the programs of Debian 12 that it calls.
    root = Root()
    for p in ('sh', 'bash', 'id', 'uname', 'sleep', 'cat', 'ls'):
        root.program(shutil.which(p))
        root.add('bin/' + p, type=tarfile.SYMTYPE, linkname='/usr/bin/' + p)
    image('docker.io/library/debian:12-slim', root, Cmd=['bash'])
    # What Containerfile makes: Debian with Caisson's package.
    root = Root()
    for p in ('sh', 'sleep', 'nsenter'):
        root.program(shutil.which(p), '/usr/bin/' + p)
        root.add('bin/' + p, type=tarfile.SYMTYPE, linkname='/usr/bin/' + p)
    for p in ('caisson', 'containerd-shim-caisson-v1'):
        root.program(os.path.join(programs, p), '/usr/bin/' + p)
    for p in ('caisson-sentry', 'caisson-gofer', 'caisson-zygote', 'caisson-bench'):
        root.program(os.path.join(programs, p), '/usr/libexec/caisson/' + p)
    image('docker.io/library/caisson-install:0.1.0', root, Cmd=['sh'])
    return made
