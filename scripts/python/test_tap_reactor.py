"""Tests of tap_reactor.py with the real program: TAP_REACTOR, or target/debug/tap-reactor. Needs root.

python3 -m unittest discover scripts/python
"""

import inspect
import os
import pathlib
import unittest

from tap_reactor import Lab, LabError, Report

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("TAP_REACTOR", str(ROOT / "target" / "debug" / "tap-reactor"))


def start(*arguments: str) -> Lab:
    return Lab.start(*arguments, program=PROGRAM)


class LabTest(unittest.TestCase):
    def test_a_run_is_steered_and_its_report_is_rows(self) -> None:
        with start("--vms", "4", "--ping", "pairs", "--rate", "100", "--duration", "1h") as lab:
            self.assertEqual(lab.get_lab()["state"], "running")
            lab.add_vms(1)
            lab.add_flows("vm0:vm3", size=100)
            lab.impair("vm2:loss=100%")
            lab.set_mark("half")
            self.assertEqual([vm["name"] for vm in lab.list_vms()][:4], ["vm0", "vm1", "vm2", "vm3"])
            self.assertEqual(len(list(lab.list_flows(sort="worst"))), 3)
            events = lab.get_events()
            lab.misbehave("vm3:silent+1h")
            self.assertEqual([one["to_come"] for one in lab.list_misbehaviours() if "to_come" in one], [])
            lab.behave("all")
            self.assertIn("tap_reactor_vms 5", lab.get_metrics())
            self.assertTrue(lab.get_report_as("html").startswith(b"<!doctype html>"))
            lab.stop()
            kinds = [event["kind"] for event in events if event.get("vm") == "vm3"]
            self.assertLess(kinds.index("misbehaviour_begun"), kinds.index("misbehaviour_ended"))
            report = lab.wait(60)
            self.assertIn(lab.status, (0, 1))
        flows = report.rows("flows")
        self.assertEqual([(row["src"], row["dst"]) for row in flows], [("vm0", "vm1"), ("vm2", "vm3"), ("vm0", "vm3")])
        self.assertEqual(sum(row["totals.sent"] for row in flows), report.totals["sent"])
        self.assertEqual({len(row) for row in flows}, {len(flows[0])})
        self.assertEqual(report.rows("nonsense"), [])

    def test_lists_of_many_pages_are_whole(self) -> None:
        with start("--fabric", "sim", "--vms", "2500", "--ping", "ring", "--count", "1", "--stay") as lab:
            names = [vm["name"] for vm in lab.list_vms()]
            self.assertEqual(names, [f"vm{index}" for index in range(2500)])

    def test_errors_say_what_was_wrong_and_what_is_expected(self) -> None:
        with start("--fabric", "sim", "--vms", "2", "--ping", "vm0:vm1", "--count", "1", "--stay") as lab:
            with self.assertRaises(LabError) as caught:
                lab.get_vm("vm12")
            self.assertEqual(caught.exception.status, 404)
            self.assertEqual(caught.exception.expected, "vm0 to vm1")
        with self.assertRaises(LabError) as caught:
            start("--vms", "many")
        self.assertEqual(caught.exception.status, 2)
        self.assertIn("--vms many: expected a number of VMs", str(caught.exception))

    def test_a_run_that_is_over_before_it_was_asked_has_a_report(self) -> None:
        with start("--fabric", "sim", "--vms", "2", "--ping", "vm0:vm1", "--count", "3") as lab:
            self.assertEqual(lab.wait(60).totals["received"], 3)
            self.assertEqual(lab.status, 0)

    def test_over_tcp_with_a_token(self) -> None:
        os.environ["TAP_REACTOR_TOKEN"] = "0123456789abcdef"
        self.addCleanup(os.environ.pop, "TAP_REACTOR_TOKEN")
        with start("--vms", "2", "--ping", "vm0:vm1", "--duration", "1h", "--control", "tcp:127.0.0.1:0") as lab:
            address = lab.get_lab()["control"][0]
            self.assertEqual(Lab(address, "0123456789abcdef").get_lab()["state"], "running")
            with self.assertRaises(LabError) as caught:
                Lab(address).get_lab()
            self.assertEqual(caught.exception.status, 401)

    def test_each_request_of_the_description_has_a_method(self) -> None:
        with start("--fabric", "sim", "--vms", "2", "--ping", "vm0:vm1", "--count", "1", "--stay") as lab:
            paths = lab.get_description()["paths"].values()
        operations = {operation["operationId"] for path in paths for operation in path.values()}
        names = {"".join("_" + c.lower() if c.isupper() else c for c in operation) for operation in operations}
        methods = {name for name, _ in inspect.getmembers(Lab, inspect.isfunction)}
        self.assertEqual(names - methods, set())

    def test_rows_are_flat_and_have_the_same_keys(self) -> None:
        report = Report({"flows": [{"a": {"b": 1}, "list": [1]}, {"c": None}], "totals": {}})
        self.assertEqual(report.rows("flows"), [{"a.b": 1, "c": None}, {"a.b": None, "c": None}])


if __name__ == "__main__":
    unittest.main()
