# client.pl KIND URL...: asks each URL, and says `URL STATUS` or why not.
use strict;
use warnings;

my %token = (Authorization => "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
my %by = (
    lwp => sub {
        require LWP::UserAgent;
        my $answer = LWP::UserAgent->new(timeout => 20)->get(shift, %token);
        return ($answer->code, $answer->status_line . " " . $answer->decoded_content);
    },
    tiny => sub {
        require HTTP::Tiny;
        my $answer = HTTP::Tiny->new(timeout => 20, verify_SSL => 1)->get(shift, { headers => \%token });
        return ($answer->{status}, $answer->{content});
    },
);
my $kind   = shift @ARGV;
my $failed = 0;
for my $url (@ARGV) {
    my ($status, $said) = $by{$kind}->($url);
    if ($status == 200) { print "$url $status\n" }
    else                { print STDERR "$url: $status $said\n"; $failed = 1 }
}
exit $failed;
