"""HTA 0.5.0: critical-path graph of all steps of one trace, and its re-run; run by a Python that has it.

Prints one JSON object: events in the graph, CPU seconds to make it, CPU seconds to run it again
after the length of every edge was scaled.
"""

import json
import logging
import sys
import time

logging.disable(logging.WARNING)

from hta.analyzers.critical_path_analysis import CPGraph, CriticalPathAnalysis
from hta.common.trace import Trace


def main() -> None:
    """Parse the trace (not counted), make the graph, run it again."""
    trace = Trace(trace_files={0: sys.argv[1]}, trace_dir="")
    trace.parse_traces(use_multiprocessing=False)
    trace.decode_symbol_ids()
    steps = trace.symbol_table.get_sym_table()
    last = sum(name.startswith("ProfilerStep#") for name in steps) - 1
    path_s = []
    rerun = CPGraph.critical_path

    def timed(graph: CPGraph) -> bool:
        begin = time.process_time()
        done = rerun(graph)
        path_s.append(time.process_time() - begin)
        return done

    CPGraph.critical_path = timed
    begin = time.process_time()
    graph, _ = CriticalPathAnalysis.critical_path_analysis(trace, 0, "ProfilerStep", (0, last))
    graph_s = time.process_time() - begin - path_s[0]
    for _, _, edge in graph.edges(data=True):
        edge["weight"] *= 2
    graph.critical_path()
    events = len({node.ev_idx for node in graph.node_list})
    print(json.dumps({"events": events, "graph_s": graph_s, "rerun_s": path_s[1]}))


main()
