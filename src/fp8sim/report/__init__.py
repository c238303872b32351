"""The report: one self-contained page, its pictures, and the verdict as a picture of its own."""

from __future__ import annotations

from fp8sim._support.files import check_target
from fp8sim.report.audit import audit_page, write_audit
from fp8sim.report.page import html_report, write_report
from fp8sim.report.verdict import verdict_svg

__all__ = ["audit_page", "check_target", "html_report", "verdict_svg", "write_audit", "write_report"]
