"""Chromium on the chat page: two people talk, reload, and survive a restart of the server."""

import contextlib
import shutil

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from harness import PATIENCE, Server


@contextlib.contextmanager
def browser():
    options = Options()
    options.binary_location = shutil.which("chromium")
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


HELLO_BOB = ("Ada", "Hello Bob")
HELLO_ADA = ("Bob", "Hello Ada \u00fc")


class Tab:
    """One person's tab."""

    def __init__(self, driver, address, room, name):
        self.driver = driver
        driver.switch_to.new_window("tab")
        self.window = driver.current_window_handle
        driver.get(f"http://{address}/?room={room}&name={name}")

    def until(self, what, condition):
        self.driver.switch_to.window(self.window)
        WebDriverWait(self.driver, PATIENCE).until(lambda _: condition(), what)

    def all(self, testid):
        return self.driver.find_elements(By.CSS_SELECTOR, f"[data-testid={testid}]")

    def texts(self, testid):
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.driver.execute_script(script, f"[data-testid={testid}]")

    def state(self):
        return self.all("status")[0].get_attribute("data-state")

    def is_open(self):
        self.until("an open connection", lambda: self.all("status") and self.state() == "open")

    def say(self, text):
        self.driver.switch_to.window(self.window)
        field = self.driver.find_element(By.CSS_SELECTOR, "[data-testid=composer] textarea")
        field.send_keys(text, Keys.ENTER)

    def say_by_the_button(self, text):
        self.driver.switch_to.window(self.window)
        self.driver.find_element(By.CSS_SELECTOR, "[data-testid=composer] textarea").send_keys(text)
        self.all("send")[0].click()

    def sees(self, *messages):
        """Waits until these messages, (author, text), are all that is in the log, in this order."""
        script = (
            "return [...document.querySelectorAll('[data-testid=messages] [data-testid=message]')].map(message =>"
            " ['author', 'text'].map(part => message.querySelector(`[data-testid=${part}]`).textContent))"
        )
        wanted = [list(message) for message in messages]
        self.until(f"messages {messages}", lambda: self.driver.execute_script(script) == wanted)

    def people(self, *names):
        def are_here():
            here = " ".join(self.texts("person"))
            return len(self.texts("person")) == len(names) and all(name in here for name in names)

        self.until(f"people {names}", are_here)


def errors(driver):
    """What the consoles of all tabs have told since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def run(checks):
    chat = Server("chat")
    address = chat.address
    try:
        with browser() as driver:
            ada = Tab(driver, address, "nest", "Ada")
            bob = Tab(driver, address, "nest", "Bob")
            with checks.check("Chromium: two people are in one room"):
                for tab in (ada, bob):
                    tab.is_open()
                    tab.people("Ada", "Bob")
                ada.until("that Bob came", lambda: "Bob joined" in ada.texts("system"))
            with checks.check("Chromium: each sees the other's message"):
                ada.say("Hello Bob")
                bob.sees(HELLO_BOB)
                bob.say_by_the_button("Hello Ada \u00fc")
                for tab in (ada, bob):
                    tab.sees(HELLO_BOB, HELLO_ADA)
            with checks.check("Chromium: a reload comes back, with the history"):
                driver.switch_to.window(ada.window)
                driver.refresh()
                ada.is_open()
                ada.sees(HELLO_BOB, HELLO_ADA)
                ada.people("Ada", "Bob")
                bob.people("Ada", "Bob")
            with checks.check("Chromium: another room hears nothing"):
                carl = Tab(driver, address, "elsewhere", "Carl")
                carl.is_open()
                carl.people("Carl")
                assert carl.texts("text") == []
            with checks.check("Chromium: no error in the console"):
                assert errors(driver) == []
            with checks.check("Chromium: tabs come back by themselves when the server does"):
                chat.stop()
                for tab in (ada, bob):
                    tab.until("a lost connection", lambda tab=tab: tab.state() != "open")
                chat = Server("chat", listen=address)
                for tab in (ada, bob):
                    tab.is_open()
                    tab.people("Ada", "Bob")
                ada.say("Back again")
                bob.sees(HELLO_BOB, HELLO_ADA, ("Ada", "Back again"))
                bob.say("Me too")
                ada.sees(HELLO_BOB, HELLO_ADA, ("Ada", "Back again"), ("Bob", "Me too"))
            with checks.check("Chromium: no error in the console but refused connections meanwhile"):
                others = [error for error in errors(driver) if "net::ERR_CONNECTION_REFUSED" not in error]
                assert others == [], others
            with checks.check("Chromium: a name that is too long is refused, and said so"):
                driver.switch_to.new_window("tab")
                driver.get(f"http://{address}/?room=nest&name={'x' * 40}")
                wait = WebDriverWait(driver, PATIENCE)
                wait.until(lambda d: "32" in d.find_element(By.TAG_NAME, "body").text)
    finally:
        chat.stop()
