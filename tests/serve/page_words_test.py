#!/usr/bin/env python3
"""page_words_test.py PROGRAM [--pictures FOLDER]: text and conversations on the page of `liveavatar serve`, in
Chromium, with stand-ins of the servers that speak, hear and think. Folder and code 77: as page_test.py."""
import unittest

from client import VOICE, Server, wait_until
from page import Page, program_of_page_tests
from stand_ins import StandIn

PROGRAM = None


class Words(unittest.TestCase):
    def test_a_server_without_speech_is_told(self):
        with Server(PROGRAM, "--no_speech") as server, Page(server) as page:
            page.choose_way("type")
            page.until_text("type-note", "no text to speech")
            self.assertTrue(page.evaluate("document.getElementById('type-fields').hidden"))
            self.assertTrue(page.evaluate("document.getElementById('converse-tab').hidden"))

    def test_text_is_said_and_said_again(self):
        with StandIn() as stand_in, Server(PROGRAM, *stand_in.flags) as server, Page(server) as page:
            page.choose_way("type")
            page.until("!document.getElementById('type-fields').hidden")
            page.evaluate("document.getElementById('text').value = 'Hello there, whoever you are.'")
            page.click("say")
            page.until_text("status", "speaks")
            page.until_text("status", "listens")
            page.evaluate("document.getElementById('text').value = 'It will FAIL.'")
            page.click("say")
            page.until_text("type-note", "answered 500")
            self.assertEqual(page.errors(), [])

    def test_a_visitor_talks_and_writes_with_the_portrait(self):
        with StandIn() as stand_in, Server(PROGRAM, *stand_in.all_flags) as server:
            stand_in.to_hear = ["what is this"] * 20
            with Page(server, microphone=VOICE) as page:
                page.allow_microphone()
                page.until("!document.getElementById('converse-tab').hidden")
                page.choose_way("converse")
                page.click("converse")
                page.until_text("words", "what is this")
                page.until_text("words", "You said what is this")
                page.take_picture("converse")
                page.click("converse")
                page.until_text("converse-note", "has ended")
                wait_until("no session", lambda: server.json("/health")["sessions"] == 0)
                page.allow_microphone(False)
                page.evaluate("document.getElementById('ask-text').value = 'good morning'")
                page.evaluate("document.getElementById('ask').requestSubmit()")
                page.until_text("words", "You said good morning. That is all.")
                page.until_text("status", "speaks")
                page.choose_way("talk")
                page.until_text("status", "Stopped")
                self.assertEqual(page.errors(), [])


if __name__ == "__main__":
    PROGRAM = program_of_page_tests()
    unittest.main(verbosity=2)
