#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manifests of deploy/kubernetes: they parse, are what the API takes (kubernetes.schema.yaml), and fit each other and the programs."""
import copy, glob, os, re, unittest

import jsonschema, yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, '..', '..')
DIRECTORY = os.path.join(TOP, 'deploy', 'kubernetes')


def load(path):
    with open(path) as f:
        return [d for d in yaml.load_all(f, Strict) if d is not None]


class Strict(yaml.SafeLoader):
    """A key that is there twice is an error, as it is for Kubernetes' strict decoding."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(k, deep=deep) for k, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError('a key is there twice: %s (%s)' % (keys, node.start_mark))
        return super().construct_mapping(node, deep)


SCHEMA = load(os.path.join(HERE, 'kubernetes.schema.yaml'))[0]
FILES = {os.path.basename(p): load(p) for p in sorted(glob.glob(DIRECTORY + '/*.yaml'))}


def check(document):
    kind = '%s %s' % (document['apiVersion'], document['kind'])
    schema = dict(SCHEMA['kinds'][kind], **{'$defs': SCHEMA['$defs']})
    jsonschema.Draft202012Validator(schema).validate(document)


def of_kind(kind):
    found = [d for docs in FILES.values() for d in docs if d['kind'] == kind]
    assert found, kind
    return found


def pod_specs():
    return [d['spec'] for d in of_kind('Pod')] + [d['spec']['template']['spec'] for d in of_kind('DaemonSet')]


class Manifests(unittest.TestCase):
    def test_each_is_what_the_api_takes(self):
        for name, documents in FILES.items():
            self.assertTrue(documents, name)
            for d in documents:
                with self.subTest(file=name, kind=d.get('kind')):
                    check(d)

    def test_the_schema_refuses_mistakes(self):
        """Every member, once misspelt and, where it must be there, once missing."""
        def paths(node, at=()):
            if isinstance(node, dict):
                for k, v in node.items():
                    yield at + (k,)
                    yield from paths(v, at + (k,))
            elif isinstance(node, list):
                for i, v in enumerate(node):
                    yield from paths(v, at + (i,))
        free = {'labels', 'matchLabels', 'nodeSelector', 'annotations'}
        tried = 0
        for documents in FILES.values():
            for d in documents:
                for path in paths(d):
                    if free & set(path[:-1]) or path[-1] in ('apiVersion', 'kind'):
                        continue
                    bad = copy.deepcopy(d)
                    at = bad
                    for step in path[:-1]:
                        at = at[step]
                    at[path[-1] + 'x'] = at.pop(path[-1])
                    with self.subTest(path=path), self.assertRaises(jsonschema.ValidationError):
                        check(bad)
                    bad = copy.deepcopy(d)
                    at = bad
                    for step in path[:-1]:
                        at = at[step]
                    at[path[-1]] = {'list': []} if isinstance(at[path[-1]], list) else [at[path[-1]]]
                    with self.subTest(wrong_type=path), self.assertRaises(jsonschema.ValidationError):
                        check(bad)
                    tried += 1
        self.assertGreater(tried, 100)

    def test_the_kustomization_names_files_that_are_there(self):
        k = of_kind('Kustomization')[0]
        for r in k['resources']:
            self.assertIn(r, FILES)
        used = {c['image'].split(':')[0] for d in of_kind('DaemonSet') for p in ('containers', 'initContainers') for c in d['spec']['template']['spec'][p]}
        self.assertEqual({i['name'] for i in k['images']}, used)
        with open(os.path.join(TOP, 'CMakeLists.txt')) as f:
            version = re.search(r'project\(caisson VERSION ([0-9.]+)', f.read()).group(1)
        self.assertEqual({i['newTag'] for i in k['images']}, {version})

    def test_names_fit(self):
        names = {d['metadata']['name'] for d in of_kind('RuntimeClass')}
        for d in of_kind('Pod'):
            self.assertIn(d['spec']['runtimeClassName'], names)
        for d in of_kind('DaemonSet'):
            for k, v in d['spec']['selector']['matchLabels'].items():
                self.assertEqual(d['spec']['template']['metadata']['labels'][k], v)
        namespaces = {d['metadata']['name'] for d in of_kind('Namespace')}
        for docs in FILES.values():
            for d in docs:
                if 'namespace' in d.get('metadata', {}):
                    self.assertIn(d['metadata']['namespace'], namespaces)
        policies = {d['metadata']['name'] for d in of_kind('ValidatingAdmissionPolicy')}
        for b in of_kind('ValidatingAdmissionPolicyBinding'):
            self.assertIn(b['spec']['policyName'], policies)
            selector = b['spec']['matchResources']['namespaceSelector']['matchLabels'].items()
            self.assertTrue(any(selector <= n['metadata'].get('labels', {}).items() for n in of_kind('Namespace')))
        for s in pod_specs():
            volumes = {v['name'] for v in s.get('volumes', [])}
            for c in s['containers'] + s.get('initContainers', []):
                self.assertTrue({m['name'] for m in c.get('volumeMounts', [])} <= volumes)

    def test_the_policy_demands_the_class(self):
        names = {d['metadata']['name'] for d in of_kind('RuntimeClass')}
        for p in of_kind('ValidatingAdmissionPolicy'):
            texts = [v['expression'] for v in p['spec']['validations']]
            demanded = {m for t in texts for m in re.findall(r'runtimeClassName == "([^"]*)"', t)}
            self.assertTrue(demanded and demanded <= names, demanded)
            for t in texts:
                self.assertEqual(t.count('('), t.count(')'), t)
                self.assertEqual(t.count('"') % 2, 0, t)
            self.assertEqual(p['spec']['failurePolicy'], 'Fail')
        self.assertTrue(all(b['spec']['validationActions'] == ['Deny'] for b in of_kind('ValidatingAdmissionPolicyBinding')))

    def test_the_installer_calls_verbs_and_flags_that_there_are(self):
        caisson = os.environ['CAISSON']
        import subprocess
        for d in of_kind('DaemonSet'):
            for c in d['spec']['template']['spec']['initContainers']:
                words = c['command']
                at = next(i for i, w in enumerate(words) if w.endswith('/caisson'))
                verb, flags = words[at + 1], [w.split('=')[0] for w in words[at + 2:]]
                text = subprocess.run([caisson, verb, '--help'], capture_output=True, text=True)
                self.assertEqual(text.returncode, 0, text.stderr)
                for f in flags:
                    self.assertIn(f, text.stdout)


if __name__ == '__main__':
    unittest.main()
