import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** Client URL...: asks each URL, and says `URL STATUS` or why not. */
public final class Client {
    private static final String TOKEN =
            "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    public static void main(String[] urls) throws InterruptedException {
        HttpClient client = HttpClient.newHttpClient();
        boolean failed = false;
        for (String url : urls) {
            try {
                HttpRequest request = HttpRequest.newBuilder(URI.create(url))
                        .header("Authorization", TOKEN).timeout(Duration.ofSeconds(20)).build();
                int status = client.send(request, BodyHandlers.discarding()).statusCode();
                System.out.println(url + " " + status);
                failed |= status != 200;
            } catch (java.io.IOException problem) {
                System.err.println(url + ": " + problem);
                failed = true;
            }
        }
        System.exit(failed ? 1 : 0);
    }
}
