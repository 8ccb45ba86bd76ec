#!/usr/bin/env python3
"""check.py FILE.yaml...: says what is wrong with these manifests; exit code 0: nothing, 1: something, 77: the package
kubernetes-validate (deploy/requirements.txt) is missing. Needs no cluster and no network.

--program FILE: also compares the flags of `liveavatar generate` with those that this program has.
"""
import argparse
import re
import subprocess
import sys

try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:
    print("kubernetes-validate is not installed: pip install -r deploy/requirements.txt")
    sys.exit(77)

KUBERNETES = "1.33"
NUMBER = {"type": "integer", "minimum": 0}
REPLICAS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["replicas", "template"],
    "properties": {
        "replicas": {"type": "integer", "minimum": 1},
        "restartPolicy": {"enum": ["Never", "OnFailure"]},
        "template": {"type": "object"},  # by the schema of PodTemplate
    },
}
# What the MPI Operator takes of kubeflow.org/v2beta1 MPIJob, as far as it is used here.
MPI_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "kubeflow.org/v2beta1"},
        "kind": {"const": "MPIJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["slotsPerWorker", "mpiReplicaSpecs"],
            "properties": {
                "slotsPerWorker": {"type": "integer", "minimum": 1},
                "sshAuthMountPath": {"type": "string", "pattern": "^/"},
                "launcherCreationPolicy": {"enum": ["AtStartup", "WaitForWorkersReady"]},
                "mpiImplementation": {"const": "OpenMPI"},
                "runPolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "cleanPodPolicy": {"enum": ["None", "Running", "All"]},
                        "ttlSecondsAfterFinished": NUMBER,
                        "activeDeadlineSeconds": NUMBER,
                        "backoffLimit": NUMBER,
                        "suspend": {"type": "boolean"},
                    },
                },
                "mpiReplicaSpecs": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["Launcher", "Worker"],
                    "properties": {"Launcher": REPLICAS, "Worker": REPLICAS},
                },
            },
        },
    },
}


def by_schema(resource):
    """What jsonschema finds: one text, or none."""
    try:
        if resource.get("kind") != "MPIJob":
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
            return []
        jsonschema.Draft202012Validator(MPI_JOB).validate(resource)
        for name, replicas in resource["spec"]["mpiReplicaSpecs"].items():
            template = {"apiVersion": "v1", "kind": "PodTemplate", "template": replicas["template"]}
            kubernetes_validate.validate(template, KUBERNETES, strict=True)
    except jsonschema.ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"]
    except (KeyError, kubernetes_validate.SchemaNotFoundError) as error:
        return [f"no schema of {resource.get('apiVersion')} {resource.get('kind')}: {error}"]
    return []


def words_of(container):
    return container.get("command", []) + container.get("args", [])


def value_of(words, *names):
    """What a flag was given, as `--flag value` or `--flag=value`; "": it is not there."""
    for word, following in zip(words, words[1:] + [""]):
        flag, equals, value = word.partition("=")
        if flag in names:
            return value if equals else following
    return ""


def gpus_of(container):
    """The limit, which may be a number or a text; -1: no number."""
    limit = str(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
    return int(limit) if limit.isdigit() else -1


def of_gpus(container):
    """A GPU for each of --devices."""
    words = words_of(container)
    devices = value_of(words, "--devices").split(",")
    named = sum(device.startswith("cuda") for device in devices)
    wanted = named or int(value_of(words, "--device").startswith("cuda"))
    gpus = gpus_of(container)
    return [] if gpus == wanted else [f"nvidia.com/gpu: {gpus}, and the flags name {wanted} cards"]


def of_pod(pod):
    """Mounts that have no volume, and volumes that nothing mounts."""
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
    return [f"volume {name}: mounted or defined, not both" for name in sorted(volumes ^ mounts)]


def of_ranks(job):
    """As many ranks as slots, a GPU for each, and a name that every worker's pod can have."""
    spec = job["spec"]
    launcher, worker = (spec["mpiReplicaSpecs"][name] for name in ("Launcher", "Worker"))
    words = words_of(launcher["template"]["spec"]["containers"][0])
    found = []
    if launcher["replicas"] != 1:
        found.append("Launcher.replicas: 1 process is mpirun")
    slots, workers = spec["slotsPerWorker"], worker["replicas"]
    ranks = value_of(words, "-n", "-np", "--np", "-c")
    asked = int(ranks) if words[:1] == ["mpirun"] and ranks.isdigit() else 0
    if asked != slots * workers:
        found.append(f"mpirun -n {asked}: {workers} workers of {slots} slots have {slots * workers}")
    gpus = gpus_of(worker["template"]["spec"]["containers"][0])
    on_gpus = value_of(words, "--device") == "cuda"
    if gpus != (slots if on_gpus else 0):
        found.append(f"nvidia.com/gpu: {gpus}, and {slots} ranks of a pod on {'GPUs' if on_gpus else 'the CPU'}")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{job['metadata']['name']}-worker-{workers - 1}"):
        found.append(f"metadata.name: {job['metadata']['name']}-worker-{workers - 1} is no name of a host")
    return found


def of_flags(containers, program):
    known = subprocess.run([program, "generate", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"--[a-z][a-z_0-9]*", known))
    found = []
    for container in containers:
        words = words_of(container)
        given = words[words.index("generate") + 1:] if "generate" in words else []
        flags = [word for word in given if word.startswith("--")]
        found += [f"{word}: `generate` has no such flag" for word in flags if word.split("=")[0] not in known]
    return found


def check(resource, program=None):
    if not isinstance(resource, dict):
        return [f"no manifest: {resource!r:.60}"]
    found = by_schema(resource)
    if found:
        return found
    if resource["kind"] == "MPIJob":
        pods = [replicas["template"]["spec"] for replicas in resource["spec"]["mpiReplicaSpecs"].values()]
        found += of_ranks(resource)
    else:
        pods = [resource["spec"]["template"]["spec"]] if resource["kind"] == "Job" else []
        found += [line for pod in pods for container in pod["containers"] for line in of_gpus(container)]
    containers = [container for pod in pods for container in pod["containers"]]
    for pod in pods:
        found += of_pod(pod)
    images = {container["image"] for container in containers}
    if len(images) > 1:
        found.append(f"image: all are of one version, and here are {', '.join(sorted(images))}")
    if program:
        found += of_flags(containers, program)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--program", help="build/release/bin/liveavatar")
    options = parser.parse_args()
    failed = False
    for file in options.files:
        resources = []
        try:
            with open(file, encoding="utf-8") as text:
                resources = list(yaml.safe_load_all(text))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            resources = [str(error).replace("\n", " ")]
        found = [line for resource in resources for line in check(resource, options.program)]
        for line in found:
            print(f"{file}: {line}")
        failed = failed or bool(found)
        if not found:
            print(f"{file}: {len(resources)} fine")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
