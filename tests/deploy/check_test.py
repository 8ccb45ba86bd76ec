#!/usr/bin/env python3
"""check_test.py ROOT: deploy/kubernetes/check.py finds what it is there to find, one mistake at a time."""
import copy
import sys
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy/kubernetes"))
sys.dont_write_bytecode = True
import check  # noqa: E402  ends with 77 where the validator is missing
import yaml  # noqa: E402


def load(name):
    return yaml.safe_load((ROOT / "deploy/kubernetes" / name).read_text())


class Check(unittest.TestCase):
    def found(self, change, name="mpijob.yaml"):
        resource = copy.deepcopy(load(name))
        change(resource["spec"])
        return " ".join(check.check(resource))

    def worker(self, change):
        def of_spec(spec):
            change(spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0])
        return self.found(of_spec)

    def test_nothing_is_wrong_with_what_is_there(self):
        for name in ("mpijob.yaml", "mpijob-cpu.yaml", "job.yaml"):
            self.assertEqual(self.found(lambda spec: None, name), "", name)

    def test_an_unknown_field_of_the_job(self):
        self.assertIn("slotsPerWorkers", self.found(lambda spec: spec.update(slotsPerWorkers=4)))

    def test_an_unknown_policy(self):
        self.assertIn("Sometimes", self.found(lambda spec: spec["runPolicy"].update(cleanPodPolicy="Sometimes")))

    def test_an_unknown_field_of_a_container(self):
        self.assertIn("volumeMount", self.worker(lambda container: container.update(volumeMount=[])))

    def test_a_number_where_kubernetes_wants_a_text(self):
        self.assertIn("8080", self.worker(lambda container: container.update(command=[8080])))

    def test_a_kind_that_kubernetes_has_not(self):
        resource = load("job.yaml")
        resource["kind"] = "Jobb"
        self.assertIn("Jobb", " ".join(check.check(resource)))

    def test_a_field_of_a_plain_job(self):
        self.assertIn("backOffLimit", self.found(lambda spec: spec.update(backOffLimit=0), "job.yaml"))

    def test_more_ranks_than_slots(self):
        self.assertIn("mpirun -n 8", self.found(lambda spec: spec.update(slotsPerWorker=2)))

    def test_ranks_without_a_gpu(self):
        self.assertIn("nvidia.com/gpu", self.worker(lambda c: c["resources"]["limits"].pop("nvidia.com/gpu")))

    def test_words_that_mean_the_same(self):
        def change(spec):
            launcher = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
            words = " ".join(launcher["command"]).replace("--device=cuda", "--device cuda").replace(" -n ", " -np ", 1)
            launcher["command"] = words.split(" ")
            worker = spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
            limits = worker["resources"]["limits"]
            limits["nvidia.com/gpu"] = str(limits["nvidia.com/gpu"])
        self.assertEqual(self.found(change), "")

    def test_a_plain_job_with_too_few_gpus(self):
        def change(spec):
            spec["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 3
        self.assertIn("the flags name 4 cards", self.found(change, "job.yaml"))

    def test_what_is_no_manifest(self):
        self.assertIn("no manifest", " ".join(check.check("text")))

    def test_a_mount_without_a_volume(self):
        self.assertIn("volume gone", self.worker(lambda c: c["volumeMounts"][0].update(name="gone")))

    def test_two_versions_of_the_image(self):
        self.assertIn("liveavatar:9", self.worker(lambda container: container.update(image="liveavatar:9")))

    def test_a_name_that_no_host_can_have(self):
        resource = load("mpijob.yaml")
        resource["metadata"]["name"] = "x" * 60
        self.assertIn("no name of a host", " ".join(check.check(resource)))


if __name__ == "__main__":
    unittest.main()
